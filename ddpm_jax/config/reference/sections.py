"""The reference: all sections, in the order of the configs."""

from ddpm_jax.config.reference import data, measurement, model, training
from ddpm_jax.config.reference.entry import Field

SECTIONS = (
    data.SEED,
    data.DATA,
    model.MODEL,
    model.DIFFUSION,
    training.OPTIMIZER,
    training.TRAIN,
    data.PARALLEL,
    measurement.SAMPLE,
    measurement.EVAL,
)
FIELDS = {field.name: field for section in SECTIONS for field in section.fields}


def within(name: str) -> list[Field]:
    """Returns the field of that name, or the fields of the section, at any depth; [] for neither."""
    return [field for field in FIELDS.values() if f"{field.name}.".startswith(f"{name}.")]


def names() -> list[str]:
    """Returns the names of all fields, and of the sections that hold them, such as train.grid."""
    parents = {name[:i] for name in FIELDS for i, letter in enumerate(name) if letter == "."}
    return [*FIELDS, *sorted(parents)]
