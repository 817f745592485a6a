"""User code for tests, one of each kind, under the name of this module."""

from ddpm_jax.metrics.metric import Metric, Value


def spread(samples):
    """The sum of the variances of the features."""
    return Value(float(samples.statistics.covariance.trace()), samples.statistics.count)


SPREAD = Metric("spread", spread, higher_is_better=True, needs_reference=False)
RECALL_LOSS = SPREAD._replace(name="recall_loss", higher_is_better=False)
SECOND_KID = SPREAD._replace(name="kid")
