# shellcheck shell=bash
# tpu_vm.sh train: watches the machine and its hosts until training is done; sourced by tpu_vm.sh.

state() { # prints the state of the queued resource: NONE if it does not exist, UNKNOWN if gcloud fails
  local said
  if said=$(resource describe --format="value(state.state)" 2>&1); then
    tail -n 1 <<<"$said"
  else
    [[ $said == *NOT_FOUND* ]] && echo NONE || echo UNKNOWN
  fi
}

try() { # allows failures in between, as of a network; ten in a row end the program
  if "$@"; then
    failures=0
  elif ((++failures == 10)); then
    echo "tpu_vm.sh: $1 has failed ten times; delete the machine with: launch/tpu_vm.sh delete" >&2
    exit 1
  fi
}

begin() { setup && start && begun=1; }

look() { # checks the hosts; they do not end at the same moment, so a state counts when it is seen twice
  local now
  now=$(standing 2>/dev/null | sort -u | paste -sd ,) || now=unreachable
  [ "$now" = "$seen" ] || echo "$(date +%T) training: $now"
  if [ "$now" = running ]; then
    begun=1
  elif [ -z "$begun" ]; then
    try begin
    now=""
  elif [ "$now" = "$seen" ]; then
    case $now in
      unreachable) ;;
      done) finished=1 ;;
      *failed*) failed "$now" ;;
      *) try start ;; # some were stopped, or rebooted
    esac
  fi
  seen=$now
}

failed() {
  on_hosts 0 "tail -n 20 ddpm_jax/train.log" || true
  echo "tpu_vm.sh: training $1; the machine still exists" >&2
  [[ $1 == *"failed 2"* ]] && exit 2
  exit 1
}

train() {
  local begun="" finished="" seen="" before="" now failures=0
  until [ -n "$finished" ]; do
    now=$(state)
    [ "$now" = "$before" ] || echo "$(date +%T) machine: $now"
    before=$now
    case $now in
      ACTIVE) look ;;
      NONE) begun="" && try create ;;
      SUSPENDED | FAILED) try delete ;; # it is created again once it is gone
    esac
    [ -n "$finished" ] || sleep "${TPU_POLL:-60}"
  done
}
