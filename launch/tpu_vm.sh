#!/usr/bin/env bash
# Trains on a Cloud TPU VM, or on all hosts of a pod slice, and resumes after preemptions.
# Tested against a stand-in for gcloud; not run on Cloud TPUs yet.
set -euo pipefail

usage() {
  cat <<'END'
launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [OPTION...] [-- ARGUMENT of ddpm_jax.main...]

  train    creates the machine, installs the code, and trains on every host until training is done. A
           preempted machine is created again, and training resumes from the bucket. Training continues
           if this command ends; the same command watches it again.
  create   only requests the machine        status   the state of the machine, and of training on its hosts
  setup    only installs the code           logs     follows the first host's log
  delete   deletes the machine; the bucket keeps its contents

  --type=v3-8 | v5litepod-16 | v6e-8 ...    --spot             a cheaper machine that may be preempted
  --config=configs/cifar10.py               --project=PROJECT
  --workdir=gs://BUCKET/RUN                 --runtime=IMAGE    instead of the default for --type
  --dry-run   prints the commands without running them
Options may also be set in the environment: TPU_NAME, TPU_ZONE, TPU_TYPE, TPU_CONFIG, TPU_WORKDIR,
TPU_PROJECT, TPU_RUNTIME and TPU_SPOT=1. Exit status: 0 done, 2 wrong usage, 1 failed.
END
}

wrong() {
  echo "tpu_vm.sh: $*; see --help" >&2
  exit 2
}

quoted() { # the words, quoted for a shell
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

setup() { # with uv, since the images' Python may be too old
  local code=${TMPDIR:-/tmp}/ddpm_jax-$UID.tgz
  run tar -czf "$code" --exclude=__pycache__ -C "$root" \
    ddpm_jax configs launch pyproject.toml constraints.txt README.md LICENSE &&
    run gcloud compute tpus tpu-vm scp "$code" "$name:ddpm_jax.tgz" "${where[@]}" --worker=all &&
    on_hosts all "mkdir -p ddpm_jax && tar -xzf ddpm_jax.tgz -C ddpm_jax && cd ddpm_jax &&\
 PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv &&\
 ~/.local/bin/uv venv -q --allow-existing --python 3.12 .venv &&\
 ~/.local/bin/uv pip install -q -c constraints.txt -e '.[tpu]'"
}

start() { # on every host where it is not running; the hosts find each other
  # Braces: "a && b &" would leave a shell that holds the connection open.
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
  *) wrong "unknown command $command" ;;
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
    *) wrong "unknown option $1, or no =VALUE given" ;;
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
[[ $command != train || $workdir == gs://?* ]] || wrong "--workdir=$workdir must be gs://BUCKET/RUN, as the machine's disks are deleted with it"
case ${runtime:-$type} in
  "$runtime" | "") ;;
  v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *) wrong "no default runtime for --type=$type; give --runtime=IMAGE" ;;
esac
where=(--zone="$zone" --quiet ${project:+--project="$project"})
main=(.venv/bin/python -m ddpm_jax.main --config="$config" --workdir="$workdir" --stopped_status=75 "$@")

case $command in
  logs) on_hosts 0 "tail -n 100 -F ddpm_jax/train.log" ;;
  train)
    [ -z "$dry_run" ] || { create && setup && start && status && exit; }
    train
    echo "training is done and saved in $workdir; delete the machine with: launch/tpu_vm.sh delete"
    ;;
  *) "$command" ;;
esac
