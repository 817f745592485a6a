"""python -m ddpm_jax.main: flags, then one program a mode."""

import errno
import logging as python_logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext

from absl import flags, logging

from ddpm_jax import (
    benchmark,
    build,
    checkpoint,
    command_line,
    data,
    draws,
    evaluate,
    follow,
    generate,
    lock,
    preflight,
    processes,
    report,
    roll_call,
    stopping,
    topology,
    train,
    weights,
    weights_source,
    workdir,
)
from ddpm_jax.build import Run
from ddpm_jax.codec import calibrate
from ddpm_jax.codec import program as codec
from ddpm_jax.figures import program as figures


def prepare(argv: list[str]) -> tuple[Run, str]:
    """Everything that can be found wrong before anything is written, as ValueError."""
    config, directory, mode = command_line.parse(argv)
    quiet_libraries()
    following = mode == "evaluate" and flags.FLAGS.follow and workdir.stored(directory)
    if mode not in NEED_NONE and not following and not checkpoint.any_in(directory / "checkpoints"):
        raise ValueError(f"{directory} holds no checkpoint to {mode} from; train first")
    workdir.check_writable(directory, *WRITES[mode])
    workdir.check_same_run(directory, config.to_dict())
    run = BUILDS.get(mode, build.run)(config, directory)
    if run.model.classifies and (mode not in OF_CLASSIFIERS or following):
        what = "--follow" if following else f"--mode={mode}"
        raise ValueError(
            f"{directory} is a classifier's; for {what} name a model's run, and this one as"
            f" --config.sample.classifier={directory}"
        )
    if mode in GUIDED:
        run = draws.guided(run)
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
        report.say(f"no bound: {error}")
    grids = sorted((run.directory / "samples").glob("*-grid.png"), key=lambda p: p.stat().mtime)
    if grids:
        report.say(f"samples  {grids[-1]}")
    how = f"sample from it with --workdir={run.directory} --mode=sample"
    if run.model.classifies:
        how = f"guide another run's samples by it with --config.sample.classifier={run.directory}"
    report.say(f"run      {run.directory}; {how}")


def wanted() -> str:
    return flags.FLAGS.topology or topology.LOCAL


def source() -> weights_source.Source:
    return weights_source.read(flags.FLAGS.source, flags.FLAGS.format)


def as_what() -> str:
    return "diffusers" if flags.FLAGS.format == "auto" else flags.FLAGS.format


def asked() -> codec.Asked:
    given = flags.FLAGS
    how = given.max_bytes, given.nu, given.profile, given.archive, given.best_effort
    return codec.Asked(given.input, given.output, *how)


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
    "import": lambda *given: weights.build_for(*given, source()),
}
PROGRAMS = {
    "train": train_and_measure,
    "sample": generate.generate,
    "evaluate": lambda run: (follow.follow if flags.FLAGS.follow else evaluate.evaluate)(run),
    "figures": lambda run: figures.figures(run, flags.FLAGS.figures),
    "preflight": lambda run: preflight.preflight(run, wanted(), command_line.config_name()),
    "benchmark": lambda run: benchmark.benchmark(
        run, flags.FLAGS.benchmark, command_line.config_name()
    ),
    "import": lambda run: weights.import_weights(run, source()),
    "export": lambda run: weights.export(run, flags.FLAGS.target, as_what(), flags.FLAGS.weights),
    "calibrate": calibrate.calibrate,
    "compress": lambda run: codec.compress(run, asked()),
    "decompress": lambda run: codec.decompress(run, asked()),
    "inspect": lambda run: codec.inspect(run, asked()),
}


def check_train(run: Run) -> None:
    """Raises ValueError for splits that are not there, and for labels that the network does not know."""
    data.check_classes(run.data.open(run.data.split), run.model.unet.classes)
    if run.eval.images and run.data.held_out:
        run.data.open(run.data.held_out)


CHECKS = {
    "train": check_train,
    "sample": lambda run: None,
    "evaluate": evaluate.check,
    "figures": lambda run: figures.check(run, flags.FLAGS.figures),
    "preflight": preflight.check,
    "benchmark": lambda run: None,
    "import": lambda run: weights.check_import(run, source()),
    "export": lambda run: weights.check_export(
        run, flags.FLAGS.target, as_what(), flags.FLAGS.weights
    ),
    "calibrate": calibrate.check,
    "compress": lambda run: codec.check_compress(run, asked()),
    "decompress": lambda run: codec.check_decompress(run, asked()),
    "inspect": lambda run: codec.check_inspect(run, asked()),
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


def quiet_libraries() -> None:
    """Libraries log nothing, or INFO with --verbosity=1: what they raise is what we tell."""
    if logging.get_verbosity() > logging.WARNING:
        logging.get_absl_logger().setLevel("INFO")  # Orbax's DEBUG is pages a checkpoint
        return
    logging.get_absl_logger().setLevel("CRITICAL")
    python_logging.getLogger("asyncio").setLevel("CRITICAL")  # tracebacks of damaged checkpoints
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # What TensorStore still meets when a damaged file has been given up; nobody can catch it.
    sys.unraisablehook = lambda unraisable: None


def fail(error: BaseException, status: int) -> int:
    if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity >= 1:
        traceback.print_exception(error)
    processes.failed(error, in_words(error), status)
    print(f"ddpm_jax: {in_words(error)}", file=sys.stderr)
    return status


def in_words(error: BaseException) -> str:
    """One line that says what is wrong and, for what happens to everybody, what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    no_room = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    if any(words in text for words in no_room):
        return f"the disk is full: {text[:300]}. Make room; the same command then goes on"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return f"out of memory: {text[:300]}. Lower the batch size of what was being done"
    ours = isinstance(error, ValueError | checkpoint.Damaged | roll_call.Absent)
    return text if ours else f"{type(error).__name__}: {text}"


def main(argv: list[str]) -> int:
    """The exit status: 0 done, 2 wrong usage, 1 failed; --stopped_status if a signal stopped it."""
    stopping.listen()
    try:
        run, mode = prepare(argv)
        with lock.held(run.directory) if mode in ("train", "import") else nullcontext():
            stopping.check("before anything was begun")
            status = start(PROGRAMS[mode], run)
            processes.finished()
            return status
    except ValueError as error:
        return fail(error, 2)
    except stopping.Stopped as stopped:
        report.say(str(stopped))
        processes.finished()
        return flags.FLAGS.stopped_status
    except Exception as error:
        return fail(error, 1)


def start(program: Callable[[Run], None], run: Run) -> int:
    """Past here what goes wrong is no wrong usage, but for a lock that another process holds."""
    try:
        program(run)
    except (stopping.Stopped, lock.InUse):
        raise
    except Exception as error:
        return fail(error, 1)
    return 0


if __name__ == "__main__":
    status = main(sys.argv)
    if status == 1:
        # Orbax's threads wait ten minutes for a save that has failed; nothing is to be had of them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
