"""Every field of every config does something: another value is another run, or is refused by name."""

import copy
import functools
import runpy

import pytest
from conftest import CONFIGS
from etils import epath
from ml_collections import ConfigDict
from support import fingerprint

from ddpm_jax.config import build

NAMES = [path.stem for path in sorted(CONFIGS.glob("*.py"))]


def rows() -> list[tuple[str, str]]:
    """Every config there is, and every row of those that have some."""
    found = []
    for name in NAMES:
        names = runpy.run_path(str(CONFIGS / f"{name}.py")).get("ROWS", [""])
        found += [(name, row) for row in names]
    return found


@functools.cache
def config_of(name: str, row: str) -> ConfigDict:
    get_config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]
    return get_config(row) if row else get_config()


@functools.cache
def loaded(name: str, row: str) -> dict:
    """The fields of a config, flat."""
    return flat(config_of(name, row).to_dict())


def flat(config: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in config.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        found |= inner
    return found


ROWS = rows()
FIELDS = sorted({field for row in ROWS for field in loaded(*row)})
OTHER = {  # of each value the one that it is changed to; numbers and switches that are not here follow a rule
    "diffusion.schedule.name": {"linear": "quadratic", "cosine": "linear"}
    | {"vp": "sub_vp", "sub_vp": "vp", "ve": "linear"},
    "diffusion.schedule.T": lambda T: 2 * T,
    "diffusion.output": {"eps": "x_0", "x_prev": "eps"},
    "diffusion.variance": {"fixed_large": "fixed_small", "fixed_small": "fixed_large"}
    | {"learned": "learned_range", "learned_range": "learned"},
    "diffusion.loss": {"simple": "likelihood", "vlb": "hybrid", "hybrid": "vlb"}
    | {"classification": "simple"},
    "diffusion.timesteps": {"uniform": "importance", "importance": "uniform"}
    | {"continuous": "uniform"},
    "diffusion.log_cdf": {"normal": "tanh", "tanh": "normal"},
    "data.channels": {3: 1},
    "data.background": {255: 0},
    "model.attention": lambda heights: (8,),
    "model.multipliers": lambda each: (1, 2) if each == "auto" else (*each[:-1], each[-1] + 1),
    "model.channels": lambda width: 64 if width == "auto" else 2 * width,
    "optimizer.warmup": lambda steps: 7 if steps == "auto" else 2 * steps,
    "optimizer.ema_decay": lambda decay: 0.5 if decay == "auto" else 0.5 * decay,
    "model.dtype": {"auto": "bfloat16"},
    "model.classes": lambda classes: classes + 2,
    "train.on_nonfinite": {"stop": "skip"},
    "train.keep_best": {"": "loss"},
    "train.tracker": {"": "wandb"},
    "train.label_dropout": lambda part: part + 0.1,
    "train.grid.eta": lambda eta: eta + 0.5,
    "parallel.devices": lambda devices: 4,
    "parallel.params": {"replicated": "fsdp"},
    "parallel.remat": lambda heights: (8,),
    "sample.eta": lambda eta: eta + 0.5,
    "sample.spacing": {"linear": "quadratic"},
    "sample.guidance": lambda weight: weight + 1.0,
    "sample.label": lambda label: 1,
    "eval.quality.space": {"classifier": "pixels", "inception": "pixels"},
    "eval.quality.samples": lambda count: count + 8,
    "eval.quality.metrics": lambda names: ("support.own_code:SPREAD",),
}
for _section in ("train.grid", "sample"):
    OTHER[f"{_section}.solver"] = dict.fromkeys(("ddim", "dpm_solver"), "ancestral") | {
        "ancestral": "ddim",
        **dict.fromkeys(("predictor_corrector", "annealed_langevin"), "euler_maruyama"),
    }
    OTHER[f"{_section}.steps"] = lambda steps: 7
OTHER["eval.steps"] = lambda steps: 7
NAMED_BY = (  # what decides which other fields have a meaning
    *(f"diffusion.{name}" for name in ("schedule.name", "output", "variance", "loss", "timesteps")),
    *("sample.solver", "train.grid.solver", "model.classes"),
)
LABELS = {"model.classes": 10, "train.label_dropout": 0.1}
WITH = {  # what a field has a meaning with, where it has none in a config as it is
    "diffusion.log_cdf": {"diffusion.loss": "vlb", "diffusion.timesteps": "uniform"},
    "diffusion.schedule.beta_1": {"diffusion.schedule.name": "linear"},
    "diffusion.schedule.beta_T": {"diffusion.schedule.name": "linear"},
    "train.label_dropout": LABELS,
    "train.grid.eta": {"train.grid.solver": "ddim"},
    "sample.eta": {"sample.solver": "ddim"},
    "sample.spacing": {"sample.solver": "ddim", "sample.steps": 7},  # all T steps have one spacing
    "sample.guidance": LABELS,
    "sample.label": LABELS,
    **{
        f"sample.langevin.{name}": {"sample.solver": solver}
        for solver, names in {
            "predictor_corrector": ("corrections", "snr"),
            "annealed_langevin": ("updates", "step_size"),
        }.items()
        for name in names
    },
}


def other(field: str, value):
    """Another value of a field: half a number, twice a whole one, where 'OTHER' does not say."""
    change = OTHER.get(field)
    if change:
        return change(value) if callable(change) else change[value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value or 3
    return "other" if isinstance(value, str) else (0.5 * value or 0.5)


def built(name: str, row: str, **fields) -> str:
    """The fingerprint of a run, less the copy of its config, its place and its chains' names."""
    config = copy.deepcopy(config_of(name, row))
    config.update_from_flattened_dict(fields)
    size = config.data.image_size
    images = ((size, size, 1), 17) if name.startswith("digits") else ((size, size, 3), 256)
    run = build.run(config, epath.Path("nowhere"), image_kind=images)
    # A chain's name tells its options, also those that its sampler ignores.
    sample = run.sample._replace(chain=run.sample.chain._replace(name=""))
    grid = run.train.grid._replace(chain=run.train.grid.chain._replace(name=""))
    train = run.train._replace(grid=grid)
    plain = run._replace(config={}, directory="", checkpoints="", sample=sample, train=train)
    return fingerprint.of(plain)


@functools.cache
def usual(name: str, row: str) -> str:
    return built(name, row)


def outcome(name: str, row: str, field: str) -> str:
    """What another value of a field does, alone or else with the fields of 'WITH'."""
    value = loaded(name, row)[field]
    changed, refused = {field: other(field, value)}, False
    for with_ in ({}, WITH.get(field)):
        try:
            before = built(name, row, **with_) if with_ else usual(name, row)
            if with_ is not None and built(name, row, **with_ | changed) != before:
                return "another run"
        except ValueError:
            refused = True
    return "refused" if refused else "ignored"


def distinct(field: str) -> list[tuple[str, str]]:
    """The rows that have a field, one of those that differ in no name of what the field goes with."""
    found = {}
    for row in ROWS:
        config = loaded(*row)
        names = [config[name] for name in NAMED_BY if name in config]
        if field in config:
            found.setdefault((config[field], *names, "data.path" in config), row)
    return list(found.values())


@pytest.mark.parametrize("field", FIELDS)
def test_another_value_of_a_field_is_another_run(unchecked, field):
    """Or it is refused, as some values are in some configs; but not in all."""
    found = {row: outcome(*row, field) for row in distinct(field)}
    assert "ignored" not in found.values(), found
    assert "another run" in found.values(), found
