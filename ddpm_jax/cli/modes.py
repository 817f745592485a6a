"""The modes: what each checks, writes and runs."""

from absl import flags

from ddpm_jax.cli import command_line, exit
from ddpm_jax.codec.commands import calibrate, compress
from ddpm_jax.config import build, guide
from ddpm_jax.datasets import source as sources
from ddpm_jax.evaluation import evaluate, follow
from ddpm_jax.figures import program
from ddpm_jax.profiling import benchmark, preflight, topology
from ddpm_jax.run import record, sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, lock
from ddpm_jax.training import train
from ddpm_jax.weights import exporting, importing
from ddpm_jax.weights import source as weights_source


def prepare(argv: list[str]) -> tuple[Run, str]:
    """Everything that can be found wrong before anything is written, as ValueError."""
    config, directory, mode = command_line.parse(argv)
    exit.quiet_libraries()
    following = mode == "evaluate" and flags.FLAGS.follow and record.stored(directory)
    if mode not in NEED_NONE and not following and not checkpoint.any_in(directory / "checkpoints"):
        raise ValueError(f"{directory} holds no checkpoint to {mode} from; train first")
    files.check_writable(directory, *WRITES[mode])
    record.check_same_run(directory, config.to_dict())
    run = BUILDS.get(mode, build.run)(config, directory)
    if run.model.classifies and (mode not in OF_CLASSIFIERS or following):
        what = "--follow" if following else f"--mode={mode}"
        raise ValueError(
            f"{directory} is a classifier's; for {what} name a model's run, and this one as"
            f" --config.sample.classifier={directory}"
        )
    if mode in GUIDED:
        run = guide.guided(run)
    if flags.FLAGS.follow and mode != "evaluate":
        raise ValueError(f"--follow goes with --mode=evaluate, not {mode}")
    CHECKS[mode](run)
    return run, mode


def train_and_measure(run: Run) -> None:
    """Training, the held-out bound, and where everything is."""
    train.train(run)
    try:
        evaluate.held_out(run)
    except lock.InUse as error:
        console.say(f"no bound: {error}")
    grids = sorted((run.directory / "samples").glob("*-grid.png"), key=lambda p: p.stat().mtime)
    if grids:
        console.say(f"samples  {grids[-1]}")
    how = f"sample from it with --workdir={run.directory} --mode=sample"
    if run.model.classifies:
        how = f"guide another run's samples by it with --config.sample.classifier={run.directory}"
    console.say(f"run      {run.directory}; {how}")


def wanted() -> str:
    return flags.FLAGS.topology or topology.LOCAL


def source() -> weights_source.Source:
    return weights_source.read(flags.FLAGS.source, flags.FLAGS.format)


def as_what() -> str:
    return "diffusers" if flags.FLAGS.format == "auto" else flags.FLAGS.format


def asked() -> compress.Request:
    given = flags.FLAGS
    how = given.max_bytes, given.nu, given.profile, given.archive, given.best_effort
    return compress.Request(given.input, given.output, *how)


NEED_NONE = (
    "train",
    "preflight",
    "benchmark",
    "import",
)  # of the checkpoints that the others work on
OF_CLASSIFIERS = ("train", "evaluate", "preflight")
GUIDED = ("sample", "evaluate", "figures", "benchmark", "export")  # what draws by that section
BUILDS = {
    "preflight": lambda config, directory: preflight.build_for(config, directory, wanted()),
    "benchmark": lambda *given: benchmark.build_for(*given, flags.FLAGS.benchmark),
    "import": lambda *given: importing.build_for(*given, source()),
}
PROGRAMS = {
    "train": train_and_measure,
    "sample": sampling.generate,
    "evaluate": lambda run: (follow.follow if flags.FLAGS.follow else evaluate.evaluate)(run),
    "figures": lambda run: program.figures(run, flags.FLAGS.figures),
    "preflight": lambda run: preflight.preflight(run, wanted(), command_line.config_name()),
    "benchmark": lambda run: benchmark.benchmark(
        run, flags.FLAGS.benchmark, command_line.config_name()
    ),
    "import": lambda run: importing.import_weights(run, source()),
    "export": lambda run: exporting.export(run, flags.FLAGS.target, as_what(), flags.FLAGS.weights),
    "calibrate": calibrate.calibrate,
    "compress": lambda run: compress.compress(run, asked()),
    "decompress": lambda run: compress.decompress(run, asked()),
    "inspect": lambda run: compress.inspect(run, asked()),
}


def check_train(run: Run) -> None:
    """Raises ValueError for splits that are not there, and for labels that the network does not know."""
    sources.check_classes(run.data.open(run.data.split), run.model.unet.classes)
    if run.eval.images and run.data.held_out:
        run.data.open(run.data.held_out)


CHECKS = {
    "train": check_train,
    "sample": lambda run: None,
    "evaluate": evaluate.check,
    "figures": lambda run: program.check(run, flags.FLAGS.figures),
    "preflight": preflight.check,
    "benchmark": lambda run: None,
    "import": lambda run: importing.check_import(run, source()),
    "export": lambda run: exporting.check_export(
        run, flags.FLAGS.target, as_what(), flags.FLAGS.weights
    ),
    "calibrate": calibrate.check,
    "compress": lambda run: compress.check_compress(run, asked()),
    "decompress": lambda run: compress.check_decompress(run, asked()),
    "inspect": lambda run: compress.check_inspect(run, asked()),
}

WRITES = {  # folders in the workdir, itself among them
    "train": ("", "checkpoints", "samples", "eval"),
    "sample": ("samples",),
    "evaluate": ("eval", "samples"),
    "figures": ("figures", "samples"),
    "preflight": ("preflight",),
    "benchmark": ("benchmark",),
    "import": ("", "checkpoints"),
    "export": (),  # what else it writes its own check looks at
    "calibrate": ("codec",),
    "compress": (),
    "decompress": (),
    "inspect": (),
}
