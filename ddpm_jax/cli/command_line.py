"""Flags and the config they name: everything a user can mistype ends in one line here."""

import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from ddpm_jax.config import stored_config
from ddpm_jax.distributed import processes
from ddpm_jax.profiling import topology
from ddpm_jax.run import record
from ddpm_jax.runtime import files
from ddpm_jax.weights import formats, imported_config

FLAGS = flags.FLAGS
MODES = ("train", "sample", "evaluate", "figures", "preflight", "benchmark", "import", "export")
MODES += ("calibrate", "compress", "decompress", "inspect")
FORMATS = ("auto", *formats.FORMATS, "png", "npz")

config_flags.DEFINE_config_file("config", None, "The run: a file of configs/, or one like them.")
flags.DEFINE_enum("mode", "train", MODES, "What to do with the run.")
flags.DEFINE_bool("follow", False, "Evaluate each checkpoint as training writes it.")
flags.DEFINE_list("figures", ["all"], "Which figures --mode=figures draws.")
flags.DEFINE_string(
    "topology", None, "The TPU that --mode=preflight compiles for; local by default."
)
flags.DEFINE_list("benchmark", ["all"], "Which parts --mode=benchmark times.")
flags.DEFINE_string("source", None, "What --mode=import, or the preparation of data, takes in.")
flags.DEFINE_string("target", None, "Where --mode=export writes.")
flags.DEFINE_enum("format", "auto", FORMATS, "Of --source, or of what is exported.")
flags.DEFINE_enum("weights", "ema", ("ema", "raw"), "Which of them --mode=export takes.")
flags.DEFINE_list("input", [], "Files, or folders of them, for the codec to take in.")
flags.DEFINE_string("output", None, "The folder that --mode=compress or decompress writes to.")
flags.DEFINE_bool("archive", False, "All pictures in one file, --mode=compress.")
flags.DEFINE_integer("max_bytes", None, "So many bytes of each file, at most.", lower_bound=1)
flags.DEFINE_integer("nu", 12, "The codec's trellis has 2^nu states, of 8 to 16.")
flags.DEFINE_string(
    "profile", "portable", "Who may decode: portable (anyone), local (this machine)."
)
flags.DEFINE_bool("best_effort", False, "Of damaged files what is left.")
flags.DEFINE_string("workdir", None, "The run's folder; by default runs/<config name>.")
flags.DEFINE_string("coordinator", "", "HOST:PORT of the first of several processes.")
flags.DEFINE_integer("num_processes", 0, "How many processes make up the run; 0: ask the cluster.")
flags.DEFINE_integer("process_id", 0, "Which of them this is, from 0.")
flags.DEFINE_float("join_timeout", 300.0, "Seconds to wait at the start for the other processes.")
flags.DEFINE_integer("stopped_status", 0, "The exit status of a run that a signal has stopped.")

GOES_WITH = {
    "topology": ("preflight",),
    "source": ("import",),
    "target": ("export",),
    "format": ("import", "export"),
    "weights": ("export",),
    "input": ("compress", "decompress", "inspect"),
    "output": ("compress", "decompress"),
    "max_bytes": ("compress", "decompress"),
    "nu": ("compress",),
    "archive": ("compress",),
    "profile": ("compress",),
    "best_effort": ("decompress",),
}

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
  python -m ddpm_jax.main --mode=import --source=ddpm-cifar10-32 --workdir=runs/google
      makes a run of somebody's weights, to sample from, measure and train on.
  python -m ddpm_jax.main --workdir=runs/cifar10 --mode=export --target=my-cifar10
      makes a folder for diffusers' DDPMPipeline of a run.
  python -m ddpm_jax.main --workdir=runs/cifar10 --mode=calibrate
  python -m ddpm_jax.main --workdir=runs/cifar10 --mode=compress --input=pictures --output=small
      compresses pictures without loss with the run's model; --mode=decompress is the way back.

  --config    {configs} (ablation.py:ROW takes a row of the paper's Table 2)
  --workdir   where the run's files are (default runs/<config name>); with one that holds a run,
              --config may be left out
  --mode      {modes}
  --figures   all, or some of grid, progressive, rate_distortion, shared_latents, interpolation,
              coarse_to_fine, nearest, with commas between them; rate_distortion needs --mode=evaluate;
              left out of all: solvers (fast ones), inversion (images to latents and back), ode (the
              same by the probability-flow ODE, and its likelihood), guidance (of networks with
              labels, or a sample.classifier), compression (of files; it needs --mode=calibrate)
  --topology  with --mode=preflight: local (the devices there are), or v2:2x2, v3:2x2, v4:2x2x1,
              v5e:2x4, v5e:16x16, v5p:2x2x1, v6e:2x4, ...
  --benchmark all, or some of train_step, sampling_step, input_pipeline, end_to_end; the first two
              need no data set
  --source    with --mode=import: a checkpoint of the authors' (TensorFlow 1), pesser's PyTorch
              conversion of it, or a folder of diffusers; --config=FILE says what else the run is of
  --target    with --mode=export: where to write
  --format    of the source: auto, tf1, pesser, diffusers; of what is exported: diffusers, or
              png (a folder) or npz, which are sample.count samples
  --weights   with --mode=export: ema or raw
  --input     with --mode=compress: PNG files or folders of them, with commas between; with
              decompress and inspect: .djx and .djxa files
  --output    with --mode=compress and decompress: the folder to write to
  --archive   with --mode=compress: all of a folder in one file, <folder>.djxa, the smaller the more there are
  --max_bytes with --mode=compress: cut every file there; with decompress: take so much of each
  --nu, --profile   with --mode=compress: 2^nu states of the trellis, 8 to 16 (12); portable, or
              local, which is faster and decodes on the machine that wrote it only
  --best_effort   with --mode=decompress: of damaged files what is left, as NAME.damaged.png; exits 1
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


def parse(
    argv: list[str], usage: str = HELP, goes_with: Mapping[str, Sequence[str]] = GOES_WITH
) -> tuple[ConfigDict, epath.Path, str]:
    """The config with its overrides, the run's folder, and the mode; 'goes_with' has the modes of flags.

    Raises Usage for anything mistyped, SystemExit(0) for --help.
    """
    if any(re.fullmatch("--?(help|helpfull|helpshort)", arg) for arg in argv[1:]):
        print(usage.format(configs="a file of configs/", modes=" | ".join(MODES)))
        raise SystemExit(0)
    argv = config_first(argv)
    if not "".join(argv[1:2]).startswith("--config="):
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
    for name, modes in goes_with.items():
        if FLAGS[name].present and FLAGS.mode not in modes:
            raise Usage(f"--{name} goes with --mode={' or '.join(modes)}, not {FLAGS.mode}")
    topology.begin(FLAGS.topology or topology.LOCAL)
    if FLAGS.topology not in (None, topology.LOCAL):  # no devices of ours, and no other process
        return FLAGS.config, epath.Path(directory), FLAGS.mode
    numbers = FLAGS.num_processes, FLAGS.process_id
    told = told_to_all(FLAGS.config, directory)
    processes.start(FLAGS.coordinator, *numbers, told, FLAGS.join_timeout)
    return FLAGS.config, epath.Path(directory), FLAGS.mode


def told_to_all(config: ConfigDict, directory: str) -> dict[str, Any]:
    """What the processes of one run must have been told alike; data may lie elsewhere on each host."""
    fields = record.flatten(config.to_dict())
    alike = {name: fields[name] for name in fields if name not in ("data.data_dir", "data.path")}
    flags_ = {"--mode": FLAGS.mode, "--workdir": directory, "--num_processes": FLAGS.num_processes}
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = zlib.crc32(b"".join(file.read_bytes() for file in files))
    return alike | flags_ | {"jax": metadata.version("jax"), "ddpm_jax's checksum": code}


def taken(args: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The last value of --flag=value or --flag value, None if it is not there, and the other arguments."""
    for i, arg in reversed(list(enumerate(args))):
        match = re.fullmatch(f"--?{flag}(?:=(.*))?", arg, re.DOTALL)
        if match and match[1] is not None:
            return match[1], args[:i] + args[i + 1 :]
        if match:
            return "".join(args[i + 1 : i + 2]), args[:i] + args[i + 2 :]
    return None, args


def config_first(argv: list[str]) -> list[str]:
    """Moves --config to the front, where config_flags wants it.

    Without one a run's own stands in, and with --mode=import the one that weights have.
    """
    program, *args = argv
    config, rest = taken(args, "config")
    folder, _ = taken(args, "workdir")
    if taken(args, "mode")[0] == "import":
        config = config_of_weights(args, config or "")
    elif config is None and folder is not None and record.stored(epath.Path(folder)) is not None:
        config = f"{stored_config.__file__}:{folder}"
    return argv if config is None else [program, f"--config={config}", *rest]


def config_of_weights(args: list[str], base: str) -> str:
    """Raises ValueError, saying what is wrong with the weights or their base."""
    source, format = taken(args, "source")[0], taken(args, "format")[0]
    if not source:
        raise Usage("--mode=import needs --source=PATH, a checkpoint or a folder of weights")
    text = imported_config.text(source, format or "auto", base)
    imported_config.get_config(text)  # config_flags would bury what it raises
    return f"{imported_config.__file__}:{text}"


def check_fields(argv: list[str]) -> None:
    """Raises Usage if there is no such config file, or no such field in it."""
    plain = flags.FlagValues()
    file = argv[1].removeprefix("--config=").partition(":")[0]
    if not epath.Path(file).is_file():
        raise Usage(f"--config: there is no file {file}")
    config_flags.DEFINE_config_file("config", flag_values=plain, sys_argv=argv[:2])
    try:
        plain(argv[:2])
    except (flags.Error, ValueError, TypeError, SyntaxError, ImportError) as error:
        # config_flags puts the config file's whole traceback in its message; the last line says it
        raise Usage(f"{argv[1]}: {str(error).strip().splitlines()[-1]}") from error
    config = plain.config.to_dict()
    known = record.flatten(config)
    for arg in argv[2:]:
        match = re.match(r"--?(?:no)?config\.([^=]+)", arg)
        if match and match[1] not in known and match[1] not in config:
            raise Usage(f"the config has no field {match[1]}; {files.nearest(match[1], known)}")


def default_workdir() -> str:
    """runs/digits for configs/digits.py, runs/ablation-row for configs/ablation.py:row."""
    return f"runs/{config_name()}"


def config_name() -> str:
    """What the run is called: by its config, or by its folder where that is all it was given by."""
    path, _, row = FLAGS["config"].config_filename.partition(":")
    name = epath.Path(path).stem
    if name == "stored_config":
        return epath.Path(row).name
    if name == "imported_config":
        return imported_config.folder_name(FLAGS.source)
    return f"{name}-{row}" if row else name
