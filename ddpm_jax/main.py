"""python -m ddpm_jax.main: flags, then one program a mode."""

import sys
import traceback

from absl import flags, logging

from ddpm_jax import build, checkpoint, command_line, evaluate, generate, report, train, workdir
from ddpm_jax.build import Run


def prepare(argv: list[str]) -> tuple[Run, str]:
    """Everything that can be found wrong before anything is written, as ValueError."""
    config, directory, mode = command_line.parse(argv)
    quiet_libraries()
    if mode != "train" and not checkpoint.any_in(directory / "checkpoints"):
        raise ValueError(f"{directory} holds no checkpoint to {mode} from; train first")
    workdir.check_writable(directory)
    workdir.check_same_run(directory, config.to_dict())
    run = build.run(config, directory)
    if mode == "train":
        run.data.open(run.data.split)
    if mode == "evaluate" and not (run.eval.images and run.data.held_out):
        raise ValueError("nothing to evaluate on; set --config.eval.images and data.held_out")
    if mode != "sample" and run.eval.images and run.data.held_out:
        run.data.open(run.data.held_out)
    return run, mode


def train_and_measure(run: Run) -> None:
    """Training, the held-out bound, and where everything is."""
    train.train(run)
    evaluate.evaluate(run)
    grids = sorted((run.directory / "samples").glob("*-grid.png"), key=lambda p: p.stat().mtime)
    if grids:
        report.say(f"samples  {grids[-1]}")
    report.say(
        f"run      {run.directory}; sample from it with --workdir={run.directory} --mode=sample"
    )


PROGRAMS = {
    "train": train_and_measure,
    "sample": generate.generate,
    "evaluate": evaluate.evaluate,
}


def quiet_libraries() -> None:
    """Libraries log errors only, or INFO with --verbosity=1; Orbax's DEBUG is pages a checkpoint."""
    asked = logging.get_verbosity() > logging.WARNING
    logging.get_absl_logger().setLevel("INFO" if asked else "ERROR")


def fail(error: BaseException, status: int) -> int:
    if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity >= 1:
        traceback.print_exception(error)
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    print(f"ddpm_jax: {kind}{text}", file=sys.stderr)
    return status


def main(argv: list[str]) -> int:
    """The exit status: 0 done, 2 wrong usage, 1 the run failed."""
    try:
        run, mode = prepare(argv)
    except ValueError as error:
        return fail(error, 2)
    except Exception as error:
        return fail(error, 1)
    try:
        PROGRAMS[mode](run)
    except Exception as error:
        return fail(error, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
