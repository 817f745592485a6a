"""The real images that samples are compared with: a run's splits, embedded once."""

import json
import zlib

import numpy as np

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.evaluation import embedding
from ddpm_jax.metrics import reference as references
from ddpm_jax.metrics.features import Embedding, Space
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import files, resumable

LEAST = 2  # images whose covariance is defined
REFERENCE = 50_000  # images of a split at most


def counts(run: Run) -> dict[str, int]:
    """Returns the number of images of each split that has at least LEAST to compare samples with.

    It is 0, unknown, for a split whose statistics eval.quality.reference holds.
    """
    found = {}
    for split in filter(None, (run.data.split, run.data.held_out)):
        if split == run.data.split and run.eval.quality.reference:
            found[split] = 0
        elif (count := run.data.open(split).count) >= LEAST:
            found[split] = count
    return found


def embed(run: Run, space: Space, split: str) -> Embedding:
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
