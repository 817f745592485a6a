"""The table of flags; --help prints it and the table of modes."""

import textwrap
from dataclasses import dataclass
from typing import Any

from absl import flags

from ddpm_jax.cli import modes
from ddpm_jax.runtime import paths

FORMATS = ("auto", "tf1", "pesser", "diffusers", "png", "npz")
EXAMPLES = """Train a diffusion model, sample from it, measure it.

  ddpm train digits
      trains on 8x8 digits in minutes, on a laptop; the same command resumes the run.
  ddpm train cifar10 --workdir=gs://bucket/cifar10
      trains the paper's CIFAR-10 run, on a TPU v3-8 or any other devices.
  ddpm sample runs/digits --config.sample.count=64
      draws 64 images from the run in runs/digits.
  ddpm figures runs/digits
      draws the paper's figures from it.
  ddpm compare runs/linear runs/cosine
      compares two runs: what differs in config, curves, numbers and samples.
  ddpm preflight cifar10 --topology=v3:2x2
      compiles the run for a TPU v3-8 without one: whether it fits, how long a step may take.
  ddpm import ddpm-cifar10-32 --workdir=runs/google
      makes a run from foreign weights, to sample from, measure or train further.
  ddpm compress runs/cifar10 --input=pictures --output=small
      compresses pictures without loss; calibrate first, decompress afterwards.

ddpm is python -m ddpm_jax.main. The mode comes first, then a config, a run or, for import, the weights;
or all are flags (--mode, --config, --workdir, --source). The first command above in full:

  python -m ddpm_jax.main --mode=train --config=configs/digits.py
"""
CONFIG = (
    "a config file, or the name of one in configs/, such as digits; with a colon one row of it:"
    " ablation:mu-mse"
)
DEFINE = {
    "bool": flags.DEFINE_bool,
    "enum": flags.DEFINE_enum,
    "float": flags.DEFINE_float,
    "integer": flags.DEFINE_integer,
    "list": flags.DEFINE_list,
    "path": flags.DEFINE_string,
    "paths": flags.DEFINE_list,
    "string": flags.DEFINE_string,
}
EXIT_STATUS = (
    "It exits 0 when done, 2 on wrong usage (before anything is written), 1 when the run failed."
)


@dataclass(frozen=True)
class Flag:
    """A flag, defined with absl."""

    name: str
    kind: str  # a key of DEFINE
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    lowest: int | None = None  # of an integer


TABLE = (
    Flag(
        "workdir",
        "path",
        None,
        "the folder of the run's files (default runs/<config name>); if it holds a run, --config may"
        " be left out; compare takes several, with commas between them",
    ),
    Flag("mode", "enum", "train", "what to do; see above", choices=tuple(modes.MODES)),
    Flag(
        "follow",
        "bool",
        False,
        "evaluate each checkpoint as training writes it, and keep the best one",
    ),
    Flag(
        "figures",
        "list",
        ["all"],
        "all, or some of forward, grid, progressive, rate_distortion, shared_latents, interpolation,"
        " coarse_to_fine, nearest, with commas between them; rate_distortion needs --mode=evaluate;"
        " not in all: solvers (few-step samplers compared), inversion (images to latents and back),"
        " ode (the same by the probability-flow ODE, and its likelihood), guidance (networks with"
        " labels, or a sample.classifier), compression (file sizes; needs --mode=calibrate), film"
        " (sampling and training, as GIF and WebP), training (its curves)",
    ),
    Flag("film", "bool", False, "also make a film of it, figures/<step>-film.gif and .webp"),
    Flag(
        "topology",
        "string",
        None,
        "local (this machine's devices), or v2:2x2, v3:2x2, v4:2x2x1, v5e:16x16, v5p:2x2x1, ...",
    ),
    Flag(
        "benchmark",
        "list",
        ["all"],
        "all, or some of train_step, sampling_step, input_pipeline, end_to_end; the first two need no"
        " data set",
    ),
    Flag(
        "source",
        "path",
        None,
        "import: a checkpoint of the authors' (TensorFlow 1), pesser's PyTorch conversion of it, or a"
        " diffusers folder, or hf:OWNER/NAME[@REVISION] on Hugging Face's hub (--config=FILE says the rest"
        " of the run); prepare: LSUN's LMDB or CelebA-HQ's .tar",
    ),
    Flag("target", "path", None, "where to write: a path, or hf:OWNER/NAME on Hugging Face's hub"),
    Flag(
        "format",
        "enum",
        "auto",
        "import: auto, tf1, pesser, diffusers; export: diffusers, or png (a folder) or npz, which"
        " hold sample.count samples",
        choices=FORMATS,
    ),
    Flag(
        "weights",
        "enum",
        "ema",
        "the weights to read: ema, their average over training, or raw, as trained; the names of files"
        " made from raw weights contain 'raw'",
        choices=("ema", "raw"),
    ),
    Flag(
        "step",
        "string",
        None,
        "the checkpoint to read: its step, or best, which --follow has chosen (default: the newest)",
    ),
    Flag(
        "trust",
        "bool",
        False,
        "use code of your own that a stored run names though it has changed since, or belongs to an"
        " installed package or the run's folder; for runs from people whom you trust",
    ),
    Flag(
        "input",
        "paths",
        [],
        "compress: PNG files or folders of them, with commas between; decompress, inspect: .djx and"
        " .djxa files",
    ),
    Flag("output", "path", None, "the folder to write to (compare: default compare-A-B beside A)"),
    Flag(
        "archive",
        "bool",
        False,
        "one file for all pictures, <folder>.djxa; the more there are, the smaller each is",
    ),
    Flag(
        "max_bytes",
        "integer",
        None,
        "compress: cut every file to this size; decompress: read only this much of each",
        lowest=1,
    ),
    Flag("nu", "integer", 12, "2^nu states of the trellis, 8 to 16 (12)"),
    Flag(
        "profile",
        "string",
        "portable",
        "portable, or local, which is faster and decodes only on the machine that wrote it",
    ),
    Flag(
        "best_effort",
        "bool",
        False,
        "recover what is readable from damaged files, as NAME.damaged.png; exits 1",
    ),
    Flag(
        "coordinator",
        "string",
        "",
        "HOST:PORT of the first process, if several processes share one run; on Cloud TPU, GKE, SLURM"
        " and Open MPI they find each other",
    ),
    Flag(
        "num_processes",
        "integer",
        0,
        "the number of processes; 0 asks the cluster, 1 is a single one",
    ),
    Flag("process_id", "integer", 0, "the number of this process, from 0"),
    Flag(
        "join_timeout", "float", 300.0, "seconds to wait for the other processes at the start (300)"
    ),
    Flag(
        "stopped_status",
        "integer",
        0,
        "the exit status when a signal stopped the run with work left to do: with 75, a scheduler can"
        " tell it from a run that is done",
    ),
    Flag("verbosity", "integer", -1, "with 1, log more, and show the traceback of an error"),
)


def define() -> flags.FlagValues:
    """Returns new flag values, with all flags but --config defined."""
    values = flags.FlagValues()
    for flag in TABLE:
        options: dict[str, Any] = {"flag_values": values}
        if flag.kind == "enum":
            options["enum_values"] = flag.choices
        if flag.kind == "integer":
            options["lower_bound"] = flag.lowest
        DEFINE[flag.kind](name=flag.name, default=flag.default, help=flag.help, **options)
    return values


def expand(flag: Flag, value: Any) -> Any:
    """Returns a flag's value with ~ expanded, where it holds paths. Raises ValueError for an unknown user."""
    if flag.kind == "path" and value:
        return str(paths.user_path(value))
    if flag.kind == "paths":
        return [str(paths.user_path(each)) for each in value]
    return value


def help_text() -> str:
    """Returns what --help prints: examples, modes, flags, exit status."""
    lines = [EXAMPLES, "Modes (--mode=NAME):"]
    lines += [row(mode.name, mode.help) for mode in modes.ALL]
    lines += ["", "Flags:", row("--config", CONFIG)]
    for flag in TABLE:
        names = ", ".join(modes.names_by_flag(flag.name))
        lines.append(row(f"--{flag.name}", f"[{names}] {flag.help}" if names else flag.help))
    lines += [
        row("--config.SECTION.FIELD=VALUE", "any field, e.g. --config.train.batch_size=64"),
        row("--help=config", "all fields; --help=train, --help=train.keep_every: some of them"),
        "",
        EXIT_STATUS,
    ]
    return "\n".join(lines)


def row(name: str, text: str) -> str:
    """Formats a name and its text, wrapped at 100 columns with a hanging indent."""
    head = f"  {name:<15} "
    return textwrap.fill(text, 100, initial_indent=head, subsequent_indent=" " * 18)
