"""Sample quality: Frechet distance, KID, precision and recall, Inception Score.

In Inception's feature space the metrics carry their usual names: FID, KID and so on. In any other space
the space's name is part of each metric's name. In every space the Frechet distance between held-out and
training images is reported as a floor.
"""

import time
import zlib
from collections.abc import Sequence
from typing import Any

from etils import epath

from ddpm_jax.evaluation import (
    embedding,
    metric_table,
    quality_file,
    real_images,
    sample_files,
    spaces,
)
from ddpm_jax.metrics import frechet, metric
from ddpm_jax.metrics import reference as references
from ddpm_jax.metrics.features import Bytes, Embedding, Space
from ddpm_jax.metrics.metric import Metric, Value
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, metrics_log, user_code

FEW = 10_000  # samples, below which a Frechet distance depends strongly on their number


def quality(run: Run) -> None:
    """Adds a measurement to eval/<step>-quality.json if eval.quality.samples is not 0.

    The samples are those of eval.quality.path, or the run's own, from samples/ or drawn now. Raises
    ValueError for unusable samples, Stopped on a stop signal.
    """
    settings, started = run.eval.quality, time.monotonic()
    if not settings.samples:
        return
    # Reads the files first, as they may be wrong and drawing 50,000 samples takes hours.
    space = spaces.SPACES[settings.space](run)
    real = {split: real_images.embed(run, space, split) for split in real_images.counts(run)}
    say_left_out(run, space, real)
    step, params = state.read_weights(run)
    images = samples(run, step, params)
    own = embedding.embed(space, len(images), lambda rows: images[rows], "samples")
    values = measure(space, own, real, metric_table.metrics(run))
    record = {
        "scores": flatten(values),
        "samples": len(images),
        "few_samples": len(images) < FEW,
        "references": {split: each.statistics.count for split, each in real.items()},
        "settings": space.settings,
        "reference": settings.reference,
        **facts(run),
        "samples_checksum": f"{zlib.crc32(images.tobytes()):08x}",
        "seconds": round(time.monotonic() - started, 1),
    }
    quality_file.write(run, step, record)
    if not settings.path:  # else the samples are not the step's
        scores = {f"{run.prefix}{name}": value for name, value in record["scores"].items()}
        metrics_log.write_measurement(run.directory, step, scores)
    print_values(values, len(images))


def check(run: Run) -> None:
    """Raises ValueError for unusable files or metrics that the config names, and if nothing can be measured."""
    settings = run.eval.quality
    metric_table.check(run)
    if not settings.samples:
        return
    if settings.path:
        sample_files.read(epath.Path(settings.path), run.model.shape)
    if settings.reference:
        references.check(settings.reference)
    spaces.check(run)
    if not real_images.counts(run):
        raise ValueError(
            f"data set {run.data.name!r} has too few images to measure samples against: no split has"
            f" {real_images.LEAST}; set --config.eval.quality.samples=0"
        )


def samples(run: Run, step: int, params: Any) -> Bytes:
    """Returns the samples to measure."""
    settings = run.eval.quality
    if settings.path:
        images = sample_files.read(epath.Path(settings.path), run.model.shape)
        return images[: settings.samples]
    images = sampling.find_samples(run, step, settings.samples)
    if images is None:
        drawing = run._replace(sample=run.sample._replace(count=settings.samples))
        images = sampling.write_samples(drawing, step, params)
    return images


def facts(run: Run) -> dict[str, Any]:
    """The facts of a measurement that the config decides: whose samples, in which space, by which user code."""
    settings = run.eval.quality
    names = run.config["eval"]["quality"]["metrics"]
    metrics = {"metrics": {name: user_code.checksum(name) for name in names}} if names else {}
    if settings.path:
        return {"samples_from": settings.path, "space": settings.space} | metrics
    own = {"sampler": run.sample.chain.name, "seed": run.sample.seed, "weights": run.weights}
    return own | {"space": settings.space} | metrics


def find(run: Run, step: int) -> dict[str, float]:
    """Returns the scores of a step's newest measurement with the present settings; {} without one."""
    settings = run.eval.quality
    count = {} if settings.path else {"samples": settings.samples}
    found = quality_file.find(run, step, facts(run) | count) if settings.samples else None
    return {} if found is None else found["scores"]


def sample_count(run: Run) -> int:
    """The number of samples to measure; fewer than eval.quality.samples if eval.quality.path holds fewer."""
    settings = run.eval.quality
    if not settings.path:
        return settings.samples
    images = sample_files.read(epath.Path(settings.path), run.model.shape)
    return min(settings.samples, len(images))


def say_left_out(run: Run, space: Space, real: dict[str, Embedding]) -> None:
    """Prints which metrics have too few images, and how many they need."""
    counts = {split: data.statistics.count for split, data in real.items()}
    for name, count in {"samples": sample_count(run), **counts}.items():
        few = [
            f"{metric.stem(each, space.name)} (needs {each.least})"
            for each in metric_table.defined(run)
            if not metric_table.enough(each, count)
            and not (name == "samples" and each.needs_reference)
        ]
        if few:
            console.say(f"{name} has {count} images; left out: {', '.join(few)}")
    for split in filter(None, (run.data.split, run.data.held_out)):
        if split not in real:
            console.say(
                f"{split} has fewer than {real_images.LEAST} images; samples are not compared with it"
            )


def measure(
    space: Space,
    own: Embedding,
    real: dict[str, Embedding],
    metrics: Sequence[Metric] = metric_table.METRICS,
) -> dict[str, Value]:
    """Returns all values, by name.

    Metrics that need a reference compare the samples with each split; the others are computed for the
    samples and for each split, and all where there are enough images. With two splits, their Frechet
    distance is added as the floor.
    """
    values = {}
    for each in metrics:
        if not each.needs_reference and metric_table.enough(each, own.statistics.count):
            values |= name_value(each, space, each.function(own))
    for split, data in real.items():
        for each in metrics:
            image_sets = (own, data) if each.needs_reference else (data,)
            if metric_table.enough(each, *(images.statistics.count for images in image_sets)):
                values |= name_value(each, space, each.function(*image_sets), split)
    if len(real) == 2:
        (train_split, train), (split, held_out) = real.items()
        value, start = (
            frechet.embedding_distance(held_out, train),
            metric.stem(frechet.FRECHET, space.name),
        )
        count = abbreviate(value.count)
        values[f"floor_{start}_{files.file_name_part(split)}_{count}_{train_split}"] = value
    return values


def name_value(
    each: Metric, space: Space, value: Value | None, split: str = ""
) -> dict[str, Value]:
    """Returns a value by its name in files, made of metric, space, image count and split; {} for None."""
    if value is None:
        return {}
    parts = metric.stem(each, space.name), abbreviate(value.count), files.file_name_part(split)
    return {"_".join(filter(None, parts)): value}


def possible_names(run: Run) -> list[str]:
    """Returns the names that scores of a run can have, from numbers of images alone."""
    if not run.eval.quality.samples:
        return []
    own, names = sample_count(run), []
    # Some metrics count all samples, others those whose vectors are stored.
    counts = dict.fromkeys(map(abbreviate, (own, min(own, embedding.SUBSET))))
    for each in metric_table.defined(run):
        start = metric.stem(each, run.eval.quality.space)
        if not each.needs_reference and metric_table.enough(each, own):
            names += [f"{start}_{count}" for count in counts]
        for split, count in real_images.counts(run).items():
            part = files.file_name_part(split)
            if each.needs_reference and metric_table.enough(each, own, count):
                names += [f"{start}_{count}_{part}" for count in counts]
            if not each.needs_reference and metric_table.enough(each, count):
                names.append(f"{start}_{abbreviate(count)}_{part}")
    return names


def flatten(values: dict[str, Value]) -> dict[str, float]:
    """Returns values by name as files store them, with standard deviations as values of their own."""
    numbers = {}
    for name, value in values.items():
        numbers[name] = value.value
        if value.std is not None:
            numbers[f"{name}_std"] = value.std
    return numbers


def abbreviate(count: int) -> str:
    """Formats 50000 as "50k"."""
    return f"{count // 1000}k" if count % 1000 == 0 and count else str(count)


def print_values(values: dict[str, Value], count: int) -> None:
    for name, (value, _, std) in values.items():
        console.say(f"{name}  {value:.4g}" + (f" +- {std:.2g}" if std is not None else ""))
    if count < FEW:
        console.say(
            f"  {count} samples is a small set: Frechet distances fall as the number of samples grows;"
            f" compare only sets of equal size, or use {FEW} or more samples"
        )
