"""Checks of the fields that concern labels: sample.label, guidance and classifier, and label dropout."""

from ddpm_jax.config import validate
from ddpm_jax.run.run import ALL, Chain, Eval, Sample, Train


def check_and_name(sample: Sample, train: Train, classes: int) -> Sample:
    """Returns the sample section with label and guidance scale in the chain's name.

    'classes' is the network's number of classes, 0 for none. Raises ValueError for fields that this
    network does not support. With a sample.classifier, 'guide' checks and names the rest.
    """
    check_network_fields(sample, train, classes)
    for section, chain in ("sample", sample.chain), ("train.grid", train.grid.chain):
        if classes:
            check_solver(section, chain)
    if sample.classifier:
        return sample
    check_label(sample.chain.label, classes)
    scale = f"-w{sample.chain.guidance:g}" if sample.chain.guidance else ""
    return sample._replace(chain=append_to_name(sample.chain, scale))


def append_to_name(chain: Chain, suffix: str) -> Chain:
    """Returns the chain with 'suffix' and its label, if it has one, appended to its name."""
    label = f"-label{chain.label}" if chain.label != ALL else ""
    return chain._replace(name=chain.name + suffix + label)


def check_network_fields(sample: Sample, train: Train, classes: int) -> None:
    """Raises ValueError for a field that needs a network with labels, or label dropout in training."""
    classifier_free = not sample.classifier
    is_set = {
        "sample.guidance": classifier_free and sample.chain.guidance != 0.0,
        "sample.label": classifier_free and sample.chain.label != ALL,
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


def check_classifier(classes: int, train: Train, evaluation: Eval) -> None:
    """Raises ValueError for fields that apply only to networks from which samples are drawn."""
    validate.at_least(2, "model", classes=classes)
    unsupported = {
        "train.label_dropout": train.label_dropout,
        "train.sample_every": train.sample_every,
        "eval.quality.samples": evaluation.quality.samples,
    }
    for field, value in unsupported.items():
        if value:
            raise ValueError(f"{field} is {value}; with diffusion.loss classification it must be 0")
