"""Opens the classifier that sample.classifier names."""

import json
import zlib

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, labels, stored_config
from ddpm_jax.run import record as records
from ddpm_jax.run import state
from ddpm_jax.run.run import Guide, Run
from ddpm_jax.runtime import checkpoint, digest


def open_guide(run: Run) -> Run:
    """The run with the classifier that sample.classifier names, opened; else as it is.

    Raises ValueError for a folder that holds none, or one of other images, noise or labels.
    """
    if not run.sample.classifier:
        return run
    chain = run.sample.chain
    labels.check_solver("sample", chain)
    other = load_classifier(run, checkpoint.absolute_path(epath.Path(run.sample.classifier)))
    labels.check_label(chain.label, other.model.network.classes)
    step, params = state.read_ema(other)
    chain = chain._replace(guide=Guide(other.model, params))
    mark = zlib.crc32(json.dumps(digest.record(params)).encode())  # folders may share their name
    by = f"-by-{other.directory.name}-{step}-{mark:08x}"
    chain = labels.named(chain, f"{by}-w{chain.guidance:g}")
    return run._replace(sample=run.sample._replace(chain=chain))


def load_classifier(run: Run, directory: epath.Path) -> Run:
    """The run in a folder, on this one's devices."""
    record = records.read(directory)
    if record is None:
        raise ValueError(f"sample.classifier: {directory} holds no run")
    config = ConfigDict(stored_config.lists_to_tuples(record["config"]))
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
        "model.classes": [run.model.network.classes or other.model.network.classes]
        + [other.model.network.classes],
    }
    for what, (mine, its) in same.items():
        if mine != its:
            raise ValueError(
                f"sample.classifier: {directory} knows {what} {its}; this run has {mine}"
            )
    return other
