"""torch-fidelity, where it is installed: what the scores are held against."""

import contextlib
import importlib
import importlib.util
import sys
import types

import pytest


def torch_fidelity(module: str):
    """One of its modules, or the test is skipped."""
    pytest.importorskip("torch")
    with torchvision():
        pytest.importorskip("torch_fidelity")
        return importlib.import_module(f"torch_fidelity.{module}")


@contextlib.contextmanager
def torchvision():
    """Where it is not installed, what stands in for the data sets and networks that no test here uses."""
    stubs = {}
    if importlib.util.find_spec("torchvision") is None:
        parts = ("", ".datasets", ".transforms", ".transforms.functional")
        stubs = {f"torchvision{part}": types.ModuleType(f"torchvision{part}") for part in parts}
        for name in ("CIFAR10", "STL10", "CIFAR100"):
            setattr(stubs["torchvision.datasets"], name, type(name, (), {}))
        stubs["torchvision.transforms"].functional = stubs["torchvision.transforms.functional"]
        stubs["torchvision"].transforms = stubs["torchvision.transforms"]
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:  # diffusers looks for it too, and is not to find it
            del sys.modules[name]
