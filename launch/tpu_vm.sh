#!/usr/bin/env bash
# Trains on a Cloud TPU VM, or on all hosts of a pod slice, and goes on after preemptions.
# Tested against a stand-in for gcloud; not run on Cloud TPUs yet.
set -euo pipefail

usage() {
  cat <<'END'
launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [OPTION...] [-- ARGUMENT of ddpm_jax.main...]

  train    all of it: the machine, the code, training on every host until it is done; a preempted
           machine is made anew, and training goes on from the bucket. Training does not end with
           this command; given again, it watches on.
  create   only asks for the machine        status   the machine, and how training stands on its hosts
  setup    only brings the code to it       logs     follows the first host's log
  delete   gives the machine back; what is in the bucket stays

  --type=v3-8 | v5litepod-16 | v6e-8 ...    --spot             it may be preempted, and costs less
  --config=configs/cifar10.py               --project=PROJECT
  --workdir=gs://BUCKET/RUN                 --runtime=IMAGE    another than goes with --type
  --dry-run   prints the commands, does nothing
Options may also be TPU_NAME, TPU_ZONE, TPU_TYPE, TPU_CONFIG, TPU_WORKDIR, TPU_PROJECT, TPU_RUNTIME
and TPU_SPOT=1 in the environment. Exit status: 0 done, 2 wrong usage, 1 failed.
END
}

wrong() {
  echo "tpu_vm.sh: $*; --help tells the rest" >&2
  exit 2
}

quoted() { # words as a shell reads them
  local word line=""
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

run() { if [ -n "$dry_run" ]; then quoted "$@"; else "$@"; fi; }

resource() { run gcloud compute tpus queued-resources "$1" "$name" "${where[@]}" "${@:2}"; }

on_hosts() { run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command="$2"; }

create() {
  resource create --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" ${spot:+--spot}
}

delete() { resource delete --force; }

setup() { # with uv, since the images' Python may be older than ours has to be
  local code=${TMPDIR:-/tmp}/ddpm_jax-$UID.tgz
  run tar -czf "$code" --exclude=__pycache__ -C "$root" \
    ddpm_jax configs launch pyproject.toml constraints.txt README.md LICENSE &&
    run gcloud compute tpus tpu-vm scp "$code" "$name:ddpm_jax.tgz" "${where[@]}" --worker=all &&
    on_hosts all "mkdir -p ddpm_jax && tar -xzf ddpm_jax.tgz -C ddpm_jax && cd ddpm_jax &&\
 PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv &&\
 ~/.local/bin/uv venv -q --allow-existing --python 3.12 .venv &&\
 ~/.local/bin/uv pip install -q -c constraints.txt -e '.[tpu]'"
}

start() { # the same on every host, where it is not running; the hosts find each other
  # Braces: of "a && b &" a shell would be left that holds the connection open.
  on_hosts all "cd ddpm_jax && { nohup launch/again.sh train.log $(quoted "${main[@]}") >/dev/null 2>&1 </dev/null & }"
}

standing() { on_hosts all "cd ddpm_jax 2>/dev/null && launch/again.sh train.log || echo absent"; }

status() {
  resource describe --format="value(state.state)"
  standing
}

name=${TPU_NAME:-} zone=${TPU_ZONE:-} type=${TPU_TYPE:-} config=${TPU_CONFIG:-} workdir=${TPU_WORKDIR:-}
project=${TPU_PROJECT:-} runtime=${TPU_RUNTIME:-} spot=${TPU_SPOT:-} dry_run=""
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/launch/tpu_watch.sh" # train
command=${1:---help}
shift || true
case $command in
  create | setup | train | status | logs | delete) ;;
  --help | -h | help) usage && exit ;;
  *) wrong "$command is no command" ;;
esac
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --name=* | --zone=* | --type=* | --config=* | --workdir=* | --project=* | --runtime=*)
      option=${1%%=*}
      printf -v "${option#--}" %s "${1#*=}"
      ;;
    --spot) spot=1 ;;
    --dry-run) dry_run=1 ;;
    --help) usage && exit ;;
    *) wrong "$1 is no option, or has no =VALUE" ;;
  esac
  shift
done
shift || true # the --

needed=(name zone)
[[ $command == create || $command == train ]] && needed+=(type)
[ "$command" = train ] && needed+=(config workdir)
for option in "${needed[@]}"; do
  [ -n "${!option}" ] || wrong "$command needs --$option"
done
[[ $command != train || $workdir == gs://?* ]] || wrong "--workdir has to be gs://BUCKET/RUN: the machine's disks go with it"
case ${runtime:-$type} in
  "$runtime" | "") ;;
  v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *) wrong "no runtime is known for --type=$type; --runtime=IMAGE names one" ;;
esac
where=(--zone="$zone" --quiet ${project:+--project="$project"})
main=(.venv/bin/python -m ddpm_jax.main --config="$config" --workdir="$workdir" --stopped_status=75 "$@")

case $command in
  logs) on_hosts 0 "tail -n 100 -F ddpm_jax/train.log" ;;
  train)
    [ -z "$dry_run" ] || { create && setup && start && status && exit; }
    train
    echo "training is done, all of it in $workdir; give the machine back: launch/tpu_vm.sh delete"
    ;;
  *) "$command" ;;
esac
