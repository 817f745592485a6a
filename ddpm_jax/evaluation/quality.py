"""Sample quality: Frechet distance, KID, precision and recall, Inception Score.

In Inception's feature space the metrics carry their usual names: FID, KID and so on. In any other space
the space's name is part of each metric's name. In every space the Frechet distance between held-out and
training images is reported as a floor.
"""

import json
import time
import zlib
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.evaluation import embedding, sample_files
from ddpm_jax.metrics import (
    features,
    frechet,
    inception_score,
    kid,
    metric,
    precision_recall,
    small_classifier,
)
from ddpm_jax.metrics import reference as references
from ddpm_jax.metrics.features import Bytes, Embedding, Space
from ddpm_jax.metrics.inception import network
from ddpm_jax.metrics.inception import weights as inception_weights
from ddpm_jax.metrics.metric import Metric, Value
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, foreign, resumable

METRICS = (
    frechet.FRECHET,
    frechet.SPATIAL,
    kid.KID,
    precision_recall.PRECISION,
    precision_recall.RECALL,
    inception_score.INCEPTION_SCORE,
)
REFERENCE = 50_000  # real images at most
FEW = 10_000  # samples, below which a Frechet distance depends strongly on their number


def quality(run: Run) -> None:
    """Writes eval/<step>-quality.json if eval.quality.samples is not 0.

    The samples are those of eval.quality.path, or the run's own, from samples/ or drawn now. Raises
    ValueError for unusable samples, Stopped on a stop signal.
    """
    settings, started = run.eval.quality, time.monotonic()
    if not settings.samples:
        return
    # Reads the files first, as they may be wrong and drawing 50,000 samples takes hours.
    space = SPACES[settings.space](run)
    real = {split: reference(run, space, split) for split in splits(run)}
    step, params = state.read_ema(run)
    images, origin = samples(run, step, params)
    own = embedding.embed(space, len(images), lambda rows: images[rows], "samples")
    values = measure(space, own, real)
    record = {
        "scores": flatten(values),
        "samples": len(images),
        "few_samples": len(images) < FEW,
        "references": {split: each.statistics.count for split, each in real.items()},
        "space": space.name,
        "settings": space.settings,
        **origin,
        "seconds": round(time.monotonic() - started, 1),
    }
    path = run.directory / "eval" / f"{step}-quality.json"
    files.write_json(path, record)
    print_values(values, len(images))


def check(run: Run) -> None:
    """Raises ValueError for unusable files that the config names."""
    settings = run.eval.quality
    if not settings.samples:
        return
    if settings.path:
        sample_files.read(epath.Path(settings.path), run.model.shape)
    if settings.reference:
        foreign.check(epath.Path(settings.reference), references.GET)
    if settings.space == "inception" and settings.inception:
        inception_weights.read(settings.inception)


def samples(run: Run, step: int, params: Any) -> tuple[Bytes, dict[str, Any]]:
    """Returns the samples to measure, and facts about their origin."""
    settings = run.eval.quality
    if settings.path:
        images = sample_files.read(epath.Path(settings.path), run.model.shape)
        return images[: settings.samples], {"samples_from": settings.path}
    images = sampling.find_samples(run, step, settings.samples)
    if images is None:
        drawing = run._replace(sample=run.sample._replace(count=settings.samples))
        images = sampling.write_samples(drawing, step, params)
    return images, {"sampler": run.sample.chain.name, "seed": run.sample.seed, "weights": "ema"}


def classifier_space(run: Run) -> Space:
    """The features of a small classifier, which is trained now on the training images."""
    source = run.data.open(run.data.split)
    rows = np.arange(source.count)
    images = pixels.stretch(batches.load(source).read(rows), source.levels)
    return small_classifier.classifier(images, source.labels(rows))


def inception_space(run: Run) -> Space:
    """Inception's features. Raises ValueError if its weights are not configured or cannot be read."""
    path = run.eval.quality.inception
    if not path:
        raise ValueError(f"eval.quality.inception is not set; {inception_weights.GET}")
    weights = inception_weights.read(path)
    return network.space(weights, mesh=run.mesh, batch_size=8 * run.mesh.size)


def pixel_space(run: Run) -> Space:
    """The pixels themselves, whatever the run."""
    return features.pixels()


SPACES = {"inception": inception_space, "classifier": classifier_space, "pixels": pixel_space}


def available_space(run: Run) -> Space | None:
    """Returns the space to evaluate in; None if eval.quality.samples is 0 or Inception's path is missing."""
    settings = run.eval.quality
    if not settings.samples or (settings.space == "inception" and not settings.inception):
        return None
    return SPACES[settings.space](run)


def splits(run: Run) -> list[str]:
    return [run.data.split] + ([run.data.held_out] if run.data.held_out else [])


def reference(run: Run, space: Space, split: str) -> Embedding:
    """Returns the embedding of a split's images.

    For the training split it is read from eval.quality.reference, if that is set. Otherwise it is
    computed once and stored in eval/reference. At most the first 50,000 images are embedded:
    StyleGAN2's rule, which the paper's LSUN numbers follow.
    """
    if split == run.data.split and run.eval.quality.reference:
        return references.read(run.eval.quality.reference, space, run.model.shape)
    source = run.data.open(split)
    count = min(source.count, REFERENCE)
    first = source.read(np.arange(min(count, 16)))
    key = [
        space.name,
        space.settings,
        run.config["data"],
        split,
        count,
        zlib.crc32(first.tobytes()),
    ]
    name = f"{space.name}-{files.file_name_part(split)}-{zlib.crc32(json.dumps(key).encode()):08x}"
    path = run.directory / "eval" / "reference" / f"{name}.npz"
    stored = resumable.read(path)
    if stored is None:
        read = batches.load(source).read
        embedded = embedding.embed(
            space, count, lambda rows: pixels.stretch(read(rows), source.levels), split
        )
        stored = references.pack(embedded, space, [run.data.name, split, count])
        resumable.write(path, stored)
    return references.unpack(stored)


def measure(space: Space, own: Embedding, real: dict[str, Embedding]) -> dict[str, Value]:
    """Returns all values, by name.

    Metrics that need a reference compare the samples with each split; the others are computed for the
    samples and for each split. With two splits, their Frechet distance is added as the floor.
    """
    values = {}
    for each in METRICS:
        if not each.needs_reference:
            values |= name_value(each, space, each.function(own))
    for split, data in real.items():
        for each in METRICS:
            image_sets = (own, data) if each.needs_reference else (data,)
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


def flatten(values: dict[str, Value]) -> dict[str, float]:
    """Returns values by name as files store them, with standard deviations as values of their own."""
    numbers = {}
    for name, value in values.items():
        numbers[name] = value.value
        if value.std is not None:
            numbers[f"{name}_std"] = value.std
    return numbers


def higher_is_better(name: str) -> bool:
    """Returns whether higher is better for a name in files; False for a name of no metric in METRICS."""
    higher = (each for each in METRICS if each.higher_is_better)
    stems = {stem for each in higher for stem in (each.name, each.inception_name) if stem}
    return name.startswith(tuple(f"{stem}_" for stem in stems))


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
