"""Flags and the config they name: everything a user can mistype ends in one line here."""

import re
import sys
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from ddpm_jax import processes, topology, workdir

FLAGS = flags.FLAGS
MODES = ("train", "sample", "evaluate", "figures", "preflight", "benchmark")

config_flags.DEFINE_config_file("config", None, "The run: a file of configs/, or one like them.")
flags.DEFINE_enum("mode", "train", MODES, "What to do with the run.")
flags.DEFINE_bool("follow", False, "Evaluate each checkpoint as training writes it.")
flags.DEFINE_list("figures", ["all"], "Which figures --mode=figures draws.")
flags.DEFINE_string(
    "topology", None, "The TPU that --mode=preflight compiles for; local by default."
)
flags.DEFINE_list("benchmark", ["all"], "Which parts --mode=benchmark times.")
flags.DEFINE_string("workdir", None, "The run's folder; by default runs/<config name>.")
flags.DEFINE_string("coordinator", "", "HOST:PORT of the first of several processes.")
flags.DEFINE_integer("num_processes", 0, "How many processes make up the run; 0: ask the cluster.")
flags.DEFINE_integer("process_id", 0, "Which of them this is, from 0.")
flags.DEFINE_float("join_timeout", 300.0, "Seconds to wait at the start for the other processes.")
flags.DEFINE_integer("stopped_status", 0, "The exit status of a run that a signal has stopped.")

HELP = """Train a diffusion model, sample from it, measure it.

  python -m ddpm_jax.main --config=configs/digits.py
      trains on 8x8 digits in minutes, on a laptop; the same command resumes a run.
  python -m ddpm_jax.main --config=configs/cifar10.py --workdir=gs://bucket/cifar10
      the paper's CIFAR-10 run, on a TPU v3-8 or whatever devices there are.
  python -m ddpm_jax.main --workdir=runs/digits --mode=sample --config.sample.count=64
      draws 64 images from the run in runs/digits.
  python -m ddpm_jax.main --workdir=runs/digits --mode=figures
      draws the paper's figures from it, as PNG and PDF, with the numbers behind them.
  python -m ddpm_jax.main --config=configs/cifar10.py --mode=preflight --topology=v3:2x2
      compiles the run for a TPU v3-8, without one: does it fit, how long might a step take.
  python -m ddpm_jax.main --config=configs/cifar10.py --mode=benchmark
      times it on the devices there are: a train step, a sampling step, the input, all together.

  --config    {configs} (ablation.py:ROW takes a row of the paper's Table 2)
  --workdir   where the run's files are (default runs/<config name>); with one that holds a run,
              --config may be left out
  --mode      {modes}
  --figures   all, or some of grid, progressive, rate_distortion, shared_latents, interpolation,
              coarse_to_fine, nearest, with commas between them; rate_distortion needs --mode=evaluate
  --topology  with --mode=preflight: local (the devices there are), or v2:2x2, v3:2x2, v4:2x2x1,
              v5e:2x4, v5e:16x16, v5p:2x2x1, v6e:2x4, ...
  --benchmark all, or some of train_step, sampling_step, input_pipeline, end_to_end; the first two
              need no data set
  --follow    with --mode=evaluate: each checkpoint as training writes it, and the best is kept
  --config.SECTION.FIELD=VALUE   any number of the config, e.g. --config.train.batch_size=64
  --coordinator=HOST:PORT --num_processes=N --process_id=K
              one run by several processes, each started with its K of 0 to N - 1; on Cloud TPU, GKE,
              SLURM and Open MPI they find each other, and --num_processes=1 keeps one alone
  --join_timeout=SECONDS   how long each waits for the others at the start (300)
  --stopped_status=75            exit with 75, not 0, when stopped by a signal with work left to do,
              so that a scheduler can tell it from a run that is done
  --verbosity=1                  log more, and show the traceback of an error

It exits 0 when done, 2 on wrong usage (before anything is written), 1 when the run failed."""


class Usage(ValueError):
    """What the user typed is wrong."""


def parse(argv: list[str], usage: str = HELP) -> tuple[ConfigDict, epath.Path, str]:
    """The config with its overrides, the run's folder, and the mode.

    Raises Usage for anything mistyped, SystemExit(0) for --help.
    """
    if any(re.fullmatch("--?(help|helpfull|helpshort)", arg) for arg in argv[1:]):
        print(usage.format(configs="a file of configs/", modes=" | ".join(MODES)))
        raise SystemExit(0)
    argv = config_first(argv)
    if not names_config("".join(argv[1:2])):
        raise Usage(
            "no --config, and no --workdir that holds a run; give --config=configs/digits.py, say"
        )
    check_fields(argv)
    sys.argv = argv  # where config_flags looks for overrides
    try:
        rest = FLAGS(argv)
    except flags.Error as error:
        raise Usage(str(error).splitlines()[0]) from error
    except (TypeError, ValueError) as error:
        raise Usage(f"--config: {error}") from error
    if rest[1:]:
        raise Usage(f"{rest[1]!r} is no flag; flags begin with -- and have no spaces")
    directory = FLAGS.workdir or default_workdir()
    if FLAGS.topology is not None and FLAGS.mode != "preflight":
        raise Usage(f"--topology goes with --mode=preflight, not {FLAGS.mode}")
    topology.begin(FLAGS.topology or topology.LOCAL)
    if FLAGS.topology not in (None, topology.LOCAL):  # no devices of ours, and no other process
        return FLAGS.config, epath.Path(directory), FLAGS.mode
    numbers = FLAGS.num_processes, FLAGS.process_id
    told = told_to_all(FLAGS.config, directory)
    processes.start(FLAGS.coordinator, *numbers, told, FLAGS.join_timeout)
    return FLAGS.config, epath.Path(directory), FLAGS.mode


def told_to_all(config: ConfigDict, directory: str) -> dict[str, Any]:
    """What the processes of one run must have been told alike; data may lie elsewhere on each host."""
    fields = workdir.flatten(config.to_dict())
    alike = {name: fields[name] for name in fields if name not in ("data.data_dir", "data.path")}
    flags_ = {"--mode": FLAGS.mode, "--workdir": directory, "--num_processes": FLAGS.num_processes}
    files = sorted(Path(__file__).parent.rglob("*.py"))
    code = zlib.crc32(b"".join(file.read_bytes() for file in files))
    return alike | flags_ | {"jax": metadata.version("jax"), "ddpm_jax's checksum": code}


def names_config(arg: str) -> bool:
    return re.match("--?config(=|$)", arg) is not None


def config_first(argv: list[str]) -> list[str]:
    """Moves --config to the front, where config_flags wants it; a run's own config stands in."""
    program, *args = argv
    for i, arg in enumerate(args):
        if names_config(arg):
            width = 1 if "=" in arg else 2
            return [program, *args[i : i + width], *args[:i], *args[i + width :]]
    for i, arg in enumerate(args):
        match = re.match("--?workdir(?:=(.*))?$", arg)
        if match:
            folder = match[1] if match[1] is not None else "".join(args[i + 1 : i + 2])
            if workdir.stored(epath.Path(folder)) is not None:
                here = epath.Path(__file__).with_name("stored_config.py")
                return [program, f"--config={here}:{folder}", *args]
    return argv


def check_fields(argv: list[str]) -> None:
    """Raises Usage if there is no such config file, or no such field in it."""
    plain = flags.FlagValues()
    width = 2 if "=" in argv[1] else 3
    file = re.sub("^--?config=?", "", "".join(argv[1:width][-1:]))
    if not epath.Path(file.partition(":")[0]).is_file():
        raise Usage(f"--config: there is no file {file.partition(':')[0]}")
    config_flags.DEFINE_config_file("config", flag_values=plain, sys_argv=argv[:width])
    try:
        plain(argv[:width])
    except (flags.Error, ValueError, TypeError, SyntaxError, ImportError) as error:
        # config_flags puts the config file's whole traceback in its message; the last line says it
        raise Usage(f"{argv[1]}: {str(error).strip().splitlines()[-1]}") from error
    config = plain.config.to_dict()
    known = workdir.flatten(config)
    for arg in argv[width:]:
        match = re.match(r"--?(?:no)?config\.([^=]+)", arg)
        if match and match[1] not in known and match[1] not in config:
            raise Usage(f"the config has no field {match[1]}; {workdir.nearest(match[1], known)}")


def default_workdir() -> str:
    """runs/digits for configs/digits.py, runs/ablation-row for configs/ablation.py:row."""
    return f"runs/{config_name()}"


def config_name() -> str:
    """What the run is called: by its config, or by its folder where that is all it was given by."""
    path, _, row = FLAGS["config"].config_filename.partition(":")
    name = epath.Path(path).stem
    if name == "stored_config":
        return epath.Path(row).name
    return f"{name}-{row}" if row else name
