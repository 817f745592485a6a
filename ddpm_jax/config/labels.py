"""The fields of a config that are about labels: 'sample.label', 'guidance', 'classifier', and label dropout."""

from ddpm_jax.config import validate
from ddpm_jax.run.run import ALL, Chain, Eval, Sample, Train


def checked(sample: Sample, train: Train, classes: int) -> Sample:
    """With the label and the weight in the chain's name. Raises ValueError for what these networks cannot do.

    What only a classifier can tell is checked where it is opened.
    """
    check_of_network(sample, train, classes)
    for field, chain in ("sample", sample.chain), ("train.grid", train.grid.chain):
        if classes:
            check_solver(field, chain)
    if sample.classifier:
        return sample
    check_label(sample.chain.label, classes)
    weight = f"-w{sample.chain.guidance:g}" if sample.chain.guidance else ""
    return sample._replace(chain=named(sample.chain, weight))


def named(chain: Chain, weight: str) -> Chain:
    of_label = f"-label{chain.label}" if chain.label != ALL else ""
    return chain._replace(name=chain.name + weight + of_label)


def check_of_network(sample: Sample, train: Train, classes: int) -> None:
    by_network = not sample.classifier
    wants = {
        "sample.guidance": by_network and sample.chain.guidance != 0.0,
        "sample.label": by_network and sample.chain.label != ALL,
        "train.label_dropout": train.label_dropout > 0.0,
    }
    for field, is_set in wants.items():
        if is_set and not classes:
            raise ValueError(
                f"{field} is set, but this network knows no labels; train one with model.classes, as"
                " configs/digits_conditional.py does"
                + (", or name a sample.classifier" if field != "train.label_dropout" else "")
            )
    if wants["sample.guidance"] and not train.label_dropout:
        raise ValueError(
            "sample.guidance is set, but this network was trained with train.label_dropout 0, so"
            " it does not know images of any class; train one with 0.1"
        )


def check_solver(field: str, chain: Chain) -> None:
    if not chain.takes_labels:
        raise ValueError(
            f"{field}.solver is {chain.name}, which goes image by image and takes no labels;"
            " heun solves the same ODE"
        )


def check_label(label: int, classes: int) -> None:
    if not ALL <= label < max(classes, 1):
        raise ValueError(f"sample.label is {label}; it must lie between 0 and {classes - 1}")


def check_classifier(classes: int, train: Train, evaluation: Eval) -> None:
    """Raises ValueError for what goes with networks that samples are drawn from, and not with a classifier."""
    validate.at_least(2, "model", classes=classes)
    wrong = {
        "train.label_dropout": train.label_dropout,
        "train.sample_every": train.sample_every,
        "eval.quality.samples": evaluation.quality.samples,
    }
    for field, value in wrong.items():
        if value:
            raise ValueError(f"{field} is {value}; with diffusion.loss classification it must be 0")
