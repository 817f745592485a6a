"""Checks of the fields that concern labels: sample.label, guidance and classifier, and label dropout."""

from collections.abc import Sequence

from ddpm_jax.config import validate
from ddpm_jax.datasets import class_names
from ddpm_jax.run.model import Model
from ddpm_jax.run.run import ALL, Chain, Eval, Sample, Train


def check_and_name(
    sample: Sample, train: Train, classes: int, names: Sequence[str] | None
) -> Sample:
    """Returns the sample section with label and guidance scale in the chain's name.

    'classes' is the network's number of classes, 0 for none, and 'names' are theirs. Raises ValueError for fields that this
    network does not support. With a sample.classifier, 'guide' checks and names the rest.
    """
    check_network_fields(sample, train, classes)
    for section, chain in ("sample", sample.chain), ("train.grid", train.grid.chain):
        if classes:
            check_solver(section, chain)
    if sample.classifier:
        return sample
    chain = find_label(sample.chain, classes, names)
    scale = f"-w{chain.guidance:g}" if chain.guidance else ""
    return sample._replace(chain=append_to_name(chain, scale))


def find_label(chain: Chain, classes: int, names: Sequence[str] | None) -> Chain:
    """Returns the chain with both the number and the name of its label.

    Raises ValueError for a label that is not among the classes, or a name if no names are known.
    """
    if chain.label_name and chain.label == ALL:
        if not names:
            raise ValueError(
                f"sample.label is {chain.label_name!r}, but this run has no names of labels; give"
                f" its number, 0 to {classes - 1}"
            )
        label = class_names.label_of(chain.label_name, names)
        return chain._replace(label=label, label_name=names[label])
    check_label(chain.label, classes)
    is_named = ALL < chain.label < len(names or ())
    return chain._replace(label_name=names[chain.label] if names and is_named else "")


def append_to_name(chain: Chain, suffix: str) -> Chain:
    """Returns the chain with 'suffix' and its label, if it has one, appended to its name."""
    label = f"-label{chain.label}" if chain.label != ALL else ""
    return chain._replace(name=chain.name + suffix + label)


def check_network_fields(sample: Sample, train: Train, classes: int) -> None:
    """Raises ValueError for a field that needs a network with labels, or label dropout in training."""
    classifier_free = not sample.classifier
    is_set = {
        "sample.guidance": classifier_free and sample.chain.guidance != 0.0,
        "sample.label": classifier_free and is_labelled(sample.chain),
        "train.label_dropout": train.label_dropout > 0.0,
    }
    for field, value in is_set.items():
        if value and not classes:
            raise ValueError(
                f"{field} is set, but this network takes no labels; train one with model.classes, as"
                " configs/digits_conditional.py does"
                + (", or name a sample.classifier" if field != "train.label_dropout" else "")
            )
    if is_set["sample.guidance"] and not train.label_dropout:
        raise ValueError(
            "sample.guidance is set, but this network was trained with train.label_dropout 0, so"
            " it has no unconditional model; train one with 0.1"
        )


def is_labelled(chain: Chain) -> bool:
    return chain.label != ALL or chain.label_name != ""


def check_solver(section: str, chain: Chain) -> None:
    """Raises ValueError if a chain's solver takes no labels."""
    if not chain.takes_labels:
        raise ValueError(
            f"{section}.solver is {chain.name}, which solves image by image and takes no labels;"
            " heun solves the same ODE"
        )


def check_label(label: int, classes: int) -> None:
    """Raises ValueError unless a label is ALL or one of the classes."""
    if not ALL <= label < max(classes, 1):
        raise ValueError(f"sample.label is {label}; it must lie between 0 and {classes - 1}")


def check_classifier(model: Model, train: Train, evaluation: Eval) -> None:
    """Raises ValueError for a classifier's fields that apply only to networks from which samples are drawn."""
    if not model.classifies:
        return
    validate.at_least(2, "model", classes=model.network.classes)
    unsupported = {
        "train.label_dropout": train.label_dropout,
        "train.sample_every": train.sample_every,
        "eval.quality.samples": evaluation.quality.samples,
    }
    for field, value in unsupported.items():
        if value:
            raise ValueError(f"{field} is {value}; with diffusion.loss classification it must be 0")
