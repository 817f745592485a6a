"""What a reader of a run's numbers and samples should know before trusting them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddpm_jax.evaluation import quality, results
from ddpm_jax.evaluation.results import Curve, Measurement
from ddpm_jax.report import pictures
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.training import start

COPIES = 0.01  # the share of near copies that is worth a word, if held-out images have less
ERRORS = 4.0  # standard errors between the bounds of two splits, above which they differ


def cautions(
    run: Run, step: int, found: Sequence[Measurement], curves: Mapping[str, Curve]
) -> list[str]:
    """Returns one or two sentences each: what is wrong or uncertain, and what to do."""
    said = [
        *unfinished(run, step),
        *young_average(run, step),
        *skipped(curves),
        *signal(run),
        *outdated(run, step, found),
        *few_samples(step, found),
        *overfit(run, step, found),
        *copies(run),
    ]
    return said


def unfinished(run: Run, step: int) -> Iterator[str]:
    if step < run.train.steps and run.step is None:
        yield (
            f"Training stopped at step {step:,} of {run.train.steps:,}. ddpm train {run.directory} resumes it."
        )


def young_average(run: Run, step: int) -> Iterator[str]:
    share = run.config["optimizer"]["ema_decay"] ** step
    if run.weights == "ema" and share > state.YOUNG:
        yield (
            f"The averaged weights (EMA) are still {100 * share:.3g} % what training began with, so samples"
            " look worse than the network is. --weights=raw reads the trained weights themselves."
        )


def skipped(curves: Mapping[str, Curve]) -> Iterator[str]:
    count = sum(curves["skipped"].values) if "skipped" in curves else 0
    if count:
        yield (
            f"{count:,.0f} steps were skipped because their loss or gradient was not finite. A lower"
            " optimizer.learning_rate may avoid it."
        )


def signal(run: Run) -> Iterator[str]:
    words = "" if run.model.classifies else start.describe_signal(run.model.sched)
    if words:
        yield f"{words[0].upper()}{words[1:]}."


def outdated(run: Run, step: int, found: Sequence[Measurement]) -> Iterator[str]:
    if found and found[-1].step != step:
        yield (
            f"The newest numbers are of step {found[-1].step:,}, not of step {step:,}. ddpm evaluate"
            f" {run.directory} measures the newest checkpoint."
        )


def few_samples(step: int, found: Sequence[Measurement]) -> Iterator[str]:
    counts = [each.how["samples"] for each in found if each.step == step and "samples" in each.how]
    if counts and min(counts) < quality.FEW:
        yield (
            f"Scores are of {min(counts):,} samples. Fréchet distances fall as the number of samples grows:"
            " compare them only with those of as many."
        )


def overfit(run: Run, step: int, found: Sequence[Measurement]) -> Iterator[str]:
    """A bound that is lower on training than on held-out images by more than chance."""
    bounds = {
        each.how.get("split"): each
        for each in found
        if each.step == step and each.name.startswith(f"{results.BOUND}_")
    }
    seen, unseen = bounds.get(run.data.split), bounds.get(run.data.held_out)
    if seen and unseen and seen.error and unseen.error:
        gap = unseen.value - seen.value
        if gap > ERRORS * (seen.error**2 + unseen.error**2) ** 0.5:
            yield (
                f"The bound is {gap:.3f} bits/dim lower on training images than on held-out ones: the network"
                " has begun to learn its training images by heart. Train for fewer steps, raise"
                " model.dropout, or add images."
            )


def copies(run: Run) -> Iterator[str]:
    """Samples that are nearly training images, by the figure of nearest neighbours."""
    found = near_copies(run)
    if found and found["share"] > max(COPIES, 2 * (found.get("held_out_share") or 0.0)):
        yield (
            f"{100 * found['share']:.3g} % of {found['images']} samples are near copies of training images."
            " The network has learned some of them by heart; with few images, train for fewer steps or add"
            " images. Do not publish samples as new pictures without looking at their neighbours below."
        )


def near_copies(run: Run) -> dict[str, Any]:
    """Returns what the newest figure of nearest neighbours says of near copies; {} without one."""
    files = pictures.steps_of(run.directory / "figures", f"{run.prefix}nearest.json")
    try:
        found = json.loads(files[max(files)].read_text())["near_copies"] if files else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return found or {}
