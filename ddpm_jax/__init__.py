"""Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020) in JAX and Flax.

import ddpm_jax

trained = ddpm_jax.load("runs/digits")  # a run's folder, or diffusers'
images = trained.sample(16, seed=0)  # uint8 [16, 8, 8, 1]
trained = ddpm_jax.train("digits", "runs/mine", **{"train.steps": 100})
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm_jax.api.loading import load
    from ddpm_jax.api.trained import Trained
    from ddpm_jax.api.training import train

__version__ = "0.1.0"
__all__ = ["Trained", "load", "train"]
INTERFACE = {"load": "loading", "Trained": "trained", "train": "training"}


def __getattr__(name: str) -> Any:
    """Imports the Python interface when it is asked for: importing the package alone costs nothing."""
    if name not in INTERFACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib
    import warnings

    with warnings.catch_warnings():
        # tqdm's, in a notebook without widgets: there the bars are text
        warnings.filterwarnings("ignore", "IProgress not found")
        return getattr(importlib.import_module(f"ddpm_jax.api.{INTERFACE[name]}"), name)
