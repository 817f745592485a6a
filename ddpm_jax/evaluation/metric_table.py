"""The metrics of sample quality: ours, and those of the user's own that eval.quality.metrics names."""

from collections.abc import Sequence

from ddpm_jax.evaluation import spaces
from ddpm_jax.metrics import frechet, inception_score, kid, precision_recall
from ddpm_jax.metrics.metric import Metric
from ddpm_jax.run.run import Run

METRICS = (
    frechet.FRECHET,
    frechet.SPATIAL,
    kid.KID,
    precision_recall.PRECISION,
    precision_recall.RECALL,
    inception_score.INCEPTION_SCORE,
)


def metrics(run: Run) -> tuple[Metric, ...]:
    """Returns the metrics of a run: ours, and the user's own."""
    return METRICS + run.eval.quality.metrics


def check(run: Run) -> None:
    """Raises ValueError if two metrics of a run have one name."""
    names = [name for each in metrics(run) for name in {each.name, each.inception_name} if name]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(
            f"eval.quality.metrics has metrics named {', '.join(sorted(repeated))}, as others are;"
            " give each a name of its own"
        )


def defined(run: Run) -> list[Metric]:
    """Returns the metrics that the run's space has features for."""
    features = spaces.FEATURES[run.eval.quality.space]
    return [each for each in metrics(run) if each.feature in ("", *features)]


def enough(each: Metric, *counts: int) -> bool:
    """Returns whether image sets have as many images as a metric needs; a foreign file may not say (0)."""
    return all(count >= each.least for count in counts if count)


def higher_is_better(name: str, metrics: Sequence[Metric] = METRICS) -> bool:
    """Returns whether higher is better for a name in files; False for a name of none of the metrics."""
    stems = {
        stem: each.higher_is_better for each in metrics for stem in (each.name, each.inception_name)
    }
    found = [stem for stem in stems if stem and name.startswith(f"{stem}_")]
    return bool(found) and stems[max(found, key=len)]
