#!/usr/bin/env bash
# Runs a command until it succeeds. Repeats it after a failure (a lost peer, an unreachable bucket), but not
# after wrong usage (2), a signal (75, see --stopped_status), or ten failures in a row of under an hour each.
#   launch/again.sh LOG COMMAND...   runs it, unless it is running already; its output goes to LOG
#   launch/again.sh LOG              prints its state: running, done, stopped, failed or absent
set -uo pipefail

log=$1
shift
exec 9>>"$log.lock" # the command inherits the lock: it is "running" even if only this script was killed
if ! flock --nonblock 9; then
  echo running
  exit 0
elif [ $# = 0 ]; then
  cat "$log.state" 2>/dev/null || echo absent
  exit 0
fi

rm -f "$log.state"
for ((failures = 0; failures < 10; failures++)); do
  began=$SECONDS
  "$@" >>"$log" 2>&1 </dev/null
  status=$?
  case $status in
    0) echo "done" >"$log.state" ;;
    75) echo stopped >"$log.state" ;;
    2) echo "failed 2" >"$log.state" ;;
    *)
      echo "again.sh: exit status $status; retrying in ${AGAIN_PAUSE:=10} s" >>"$log"
      ((SECONDS - began < 3600)) || failures=0
      sleep "$AGAIN_PAUSE"
      continue
      ;;
  esac
  exit "$status"
done
echo "failed $status" >"$log.state"
exit "$status"
