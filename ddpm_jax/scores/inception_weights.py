"""The old name of `ddpm_jax.metrics.inception.weights`; it goes with the next release."""

import runpy
import sys

if __name__ == "__main__":
    print("scores.inception_weights is now metrics.inception.weights", file=sys.stderr)
    runpy.run_module("ddpm_jax.metrics.inception.weights", run_name="__main__")
