"""What samples are drawn with: a run's sampling program, and for each image its noise, its label, its guide."""

import json
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from ddpm_jax import (
    build,
    checkpoint,
    digest,
    label_settings,
    parallel,
    parameterization,
    sampling,
    settings,
    state,
    stored_config,
    workdir,
)
from ddpm_jax.build import Model, Run
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.unet import Labels

Numbers = Int[np.ndarray, " n"]


class Guide(NamedTuple):
    """The classifier of another run, which guides this one's samples."""

    model: Model
    params: Any


class Given(NamedTuple):
    """What a sampling program is called with where images have labels."""

    params: Any
    labels: Labels | None
    guide: Any = None  # the classifier's parameters


def program(model: Model, chain: settings.Chain, clip: bool = True) -> sampling.Program:
    """Called with parameters, or what 'given' makes of them where images have labels.

    Network, parameterization, guidance, clip: in this order.
    """

    def of_params(given: Any) -> Denoiser:
        if not isinstance(given, Given):
            given = Given(given, None)
        labels = given.labels if model.unet.classes else None
        w = 0.0 if chain.guide else chain.guidance
        denoise = build.unclipped(model, given.params, labels, w)
        if chain.guide:
            told = build.network(chain.guide.model, given.guide, labels=given.labels)
            denoise = chain.toward(chain.guidance, model.sched, denoise, told)
        return parameterization.clip(denoise) if clip else denoise

    return sampling.program(model.sched, chain.sampler, of_params, chain.times, model.shape)


def given(run: Run, params: Any, chain: settings.Chain, numbers: Numbers) -> Any:
    """Parameters for a sampling program, with each image's label where a network has classes."""
    classes = number_of_classes(run.model, chain)
    if not classes:
        return params
    labels = (
        numbers % classes if chain.label == settings.ALL else np.full_like(numbers, chain.label)
    )
    placed = parallel.put(run.mesh, labels.astype(np.int32)[parallel.rows(len(labels))])
    return Given(params, placed, chain.guide and chain.guide.params)


def number_of_classes(model: Model, chain: settings.Chain) -> int:
    return (chain.guide.model if chain.guide else model).unet.classes


def weights(params: Any, chain: settings.Chain) -> digest.Record:
    """What samples depend on beside the config: fingerprints of the network, and of the classifier."""
    return digest.record((params, chain.guide and chain.guide.params))


def guided(run: Run) -> Run:
    """The run with the classifier that sample.classifier names, opened; else as it is.

    Raises ValueError for a folder that holds none, or one of other images, noise or labels.
    """
    if not run.sample.classifier:
        return run
    chain = run.sample.chain
    label_settings.check_solver("sample", chain)
    other = classifier(run, checkpoint.absolute(epath.Path(run.sample.classifier)))
    label_settings.check_label(chain.label, other.model.unet.classes)
    step, params = state.averaged(other)
    chain = chain._replace(guide=Guide(other.model, params))
    mark = zlib.crc32(json.dumps(digest.record(params)).encode())  # folders may share their name
    by = f"-by-{other.directory.name}-{step}-{mark:08x}"
    chain = label_settings.named(chain, f"{by}-w{chain.guidance:g}")
    return run._replace(sample=run.sample._replace(chain=chain))


def classifier(run: Run, directory: epath.Path) -> Run:
    """The run in a folder, on this one's devices."""
    record = workdir.stored(directory)
    if record is None:
        raise ValueError(f"sample.classifier: {directory} holds no run")
    config = ConfigDict(stored_config.tuples(record["config"]))
    config.data = ConfigDict(run.config["data"])  # its own may lie elsewhere here, and is not read
    config.parallel = ConfigDict(run.config["parallel"] | {"accumulation": 1, "remat": ()})
    config.train.clip_groups = 1
    for section in (config.train, config.sample, config.eval):
        section.batch_size = run.mesh.size
    other = build.run(config, directory)
    if not other.model.classifies:
        raise ValueError(
            f"sample.classifier: {directory} holds no classifier; train one as"
            " configs/digits_classifier.py does"
        )
    same = {
        "images": [(each.model.shape, each.model.levels) for each in (run, other)],
        "diffusion.schedule": [each.config["diffusion"]["schedule"] for each in (run, other)],
        "model.classes": [run.model.unet.classes or other.model.unet.classes]
        + [other.model.unet.classes],
    }
    for what, (mine, its) in same.items():
        if mine != its:
            raise ValueError(
                f"sample.classifier: {directory} knows {what} {its}; this run has {mine}"
            )
    return other


def image_keys(run: Run, seed: int, first: int, count: int) -> Key[Array, " count"]:
    """The keys of the images first..first + count - 1, spread over the mesh."""
    return keys_of(run, seed, np.arange(first, first + count))


def keys_of(run: Run, seed: int, numbers: Numbers) -> Key[Array, " n"]:
    """The keys of any images, spread over the mesh; those with one number share their noise."""

    def made(numbers):
        return sampling.image_keys(jax.random.key(seed), numbers)

    return jax.jit(made, out_shardings=parallel.by_image(run.mesh))(numbers)
