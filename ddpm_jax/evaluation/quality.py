"""How good samples are: Frechet distance, KID, precision and recall, Inception Score.

In Inception's features these are the field's numbers, under their names. In any other space the space's
name is part of theirs, and the distance of held-out from training images stands beside, as a floor.
"""

import json
import time
import zlib
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.evaluation import embedding, sample_files
from ddpm_jax.evaluation.embedding import Side
from ddpm_jax.metrics import features, frechet, precision_recall, small_classifier
from ddpm_jax.metrics import kid as kid_metric
from ddpm_jax.metrics import reference as references
from ddpm_jax.metrics.features import Bytes, Space
from ddpm_jax.metrics.inception import network
from ddpm_jax.metrics.inception import weights as inception_weights
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, foreign, resumable

REFERENCE = 50_000  # real images at most
FEW = 10_000  # samples below which a distance says more about their number


def quality(run: Run) -> None:
    """Writes eval/<step>-quality.json, where eval.quality.samples asks for it.

    Samples are the run's own, drawn now unless they are there, or those of eval.quality.path. Raises
    ValueError for samples that are none or not of the data's shape, Stopped if asked to.
    """
    settings, started = run.eval.quality, time.monotonic()
    if not settings.samples:
        return
    # First what may be wrong with files; 50,000 samples take hours.
    chosen = SPACES[settings.space](run)
    real = {split: reference(run, chosen, split) for split in splits(run)}
    step, params = state.read_ema(run)
    images, made_by = samples(run, step, params)
    fake = embedding.side(chosen, len(images), lambda i: images[i], "samples")
    record = {
        "scores": scores(chosen, fake, real),
        "samples": len(images),
        "few_samples": len(images) < FEW,
        "references": {split: each.statistics.count for split, each in real.items()},
        "space": chosen.name,
        "settings": chosen.settings,
        **made_by,
        "seconds": round(time.monotonic() - started, 1),
    }
    path = run.directory / "eval" / f"{step}-quality.json"
    files.write_json(path, record)
    tell(record)


def check(run: Run) -> None:
    """Raises ValueError for files that the config names and that are no good."""
    settings = run.eval.quality
    if not settings.samples:
        return
    if settings.path:
        sample_files.images(epath.Path(settings.path), run.model.shape)
    if settings.reference:
        foreign.check(epath.Path(settings.reference), references.GET)
    if settings.space == "inception" and settings.inception:
        inception_weights.read(settings.inception)


def samples(run: Run, step: int, params: Any) -> tuple[Bytes, dict[str, Any]]:
    """The images, and what made them."""
    settings = run.eval.quality
    if settings.path:
        images = sample_files.images(epath.Path(settings.path), run.model.shape)
        return images[: settings.samples], {"samples_from": settings.path}
    images = sampling.find_samples(run, step, settings.samples)
    if images is None:
        drawing = run._replace(sample=run.sample._replace(count=settings.samples))
        images = sampling.write_samples(drawing, step, params)
    chosen = run.sample
    return images, {"sampler": chosen.chain.name, "seed": chosen.seed, "weights": "ema"}


def classifier_of(run: Run) -> Space:
    """A classifier of the training images, trained now."""
    source = run.data.open(run.data.split)
    rows = np.arange(source.count)
    images = pixels.stretch(batches.loaded(source).read(rows), source.levels)
    return small_classifier.classifier(images, source.labels(rows))


def inception_of(run: Run) -> Space:
    """Raises ValueError, saying what to get, where there are no weights."""
    path = run.eval.quality.inception
    if not path:
        raise ValueError(f"eval.quality.inception is not set; {inception_weights.GET}")
    weights = inception_weights.read(path)
    return network.space(weights, mesh=run.mesh, batch_size=8 * run.mesh.size)


SPACES = {
    "inception": inception_of,
    "classifier": classifier_of,
    "pixels": lambda run: features.pixels(),
}


def space_of(run: Run) -> Space | None:
    """The space of the run's scores, where they are asked for and its weights are at hand."""
    settings = run.eval.quality
    if not settings.samples or (settings.space == "inception" and not settings.inception):
        return None
    return SPACES[settings.space](run)


def splits(run: Run) -> list[str]:
    return [run.data.split] + ([run.data.held_out] if run.data.held_out else [])


def reference(run: Run, chosen: Space, split: str) -> Side:
    """A split's images in a space, out of eval/reference where they have been there before.

    Of the first 50,000, if there are more: StyleGAN2's rule, by which the paper's LSUN figures are.
    """
    if split == run.data.split and run.eval.quality.reference:
        made = references.read(run.eval.quality.reference, chosen, run.model.shape)
        return Side(made.statistics, made.vectors, made.spatial, None)
    source = run.data.open(split)
    count = min(source.count, REFERENCE)
    first = source.read(np.arange(min(count, 16)))
    key = [chosen.name, chosen.settings, run.config["data"], split, count, zlib.crc32(first)]
    name = f"{chosen.name}-{files.file_name_part(split)}-{zlib.crc32(json.dumps(key).encode()):08x}"
    path = run.directory / "eval" / "reference" / f"{name}.npz"
    kept = resumable.read(path)
    if kept is None:
        read = batches.loaded(source).read
        made = embedding.side(
            chosen, count, lambda rows: pixels.stretch(read(rows), source.levels), split
        )
        kept = embedding.packed(made, chosen, [run.data.name, split, count])
        resumable.write(path, kept)
    return embedding.unpacked(kept)


def scores(chosen: Space, fake: Side, real: dict[str, Side]) -> dict[str, Any]:
    """Every number under a name that says space, count and split."""
    of = "" if chosen.name == "inception" else f"_{chosen.name}"
    frechet_, n = f"frechet{of}" if of else "fid", short(fake.statistics.count)
    some = short(len(fake.vectors))
    found: dict[str, Any] = inception_scores(of, "", fake)
    for split, side in real.items():
        at = files.file_name_part(split)
        found[f"{frechet_}_{n}_{at}"] = frechet.distance(fake.statistics, side.statistics)
        if fake.spatial is not None and side.spatial is not None:
            found[f"s{frechet_}_{n}_{at}"] = frechet.distance(fake.spatial, side.spatial)
        if side.vectors is None:  # a file of statistics alone
            continue
        kid = kid_metric.distance(fake.vectors, side.vectors)
        found |= {f"kid{of}_{some}_{at}": kid.mean, f"kid{of}_{some}_{at}_std": kid.std}
        near = precision_recall.precision_recall(fake.vectors, side.vectors)
        found[f"precision{of}_{some}_{at}"] = near.precision
        found[f"recall{of}_{some}_{at}"] = near.recall
        found |= inception_scores(of, f"_{at}", side)
    if len(real) == 2:
        (name, train), (other, held_out) = real.items()
        floor = frechet.distance(held_out.statistics, train.statistics)
        count = short(held_out.statistics.count)
        found[f"floor_{frechet_}_{files.file_name_part(other)}_{count}_{name}"] = floor
    return found


def inception_scores(of: str, at: str, side: Side) -> dict[str, float]:
    """Of samples, and of real images for comparison."""
    if side.score is None:
        return {}
    name = f"is{of}_{short(side.statistics.count)}{at}"
    return {name: side.score[0], f"{name}_std": side.score[1]}


def short(count: int) -> str:
    """50000 as "50k"."""
    return f"{count // 1000}k" if count % 1000 == 0 and count else str(count)


def tell(record: dict[str, Any]) -> None:
    for name, value in record["scores"].items():
        if not name.endswith("_std"):
            std = record["scores"].get(f"{name}_std")
            console.say(f"{name}  {value:.4g}" + (f" +- {std:.2g}" if std is not None else ""))
    if record["few_samples"]:
        console.say(
            f"  {record['samples']} samples are few: Frechet distances fall as they grow in number;"
            f" compare such as are of equally many, or take {FEW} and more"
        )
