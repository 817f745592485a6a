"""torch-fidelity, where it is installed: what the scores are held against."""

import importlib
import sys
import types

import pytest


def torch_fidelity(module: str):
    """One of its modules, or the test is skipped."""
    pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except Exception:  # it is imported for data sets and networks that no test here uses
        parts = ("", ".datasets", ".transforms", ".transforms.functional")
        stubs = {f"torchvision{part}": types.ModuleType(f"torchvision{part}") for part in parts}
        for name in ("CIFAR10", "STL10", "CIFAR100"):
            setattr(stubs["torchvision.datasets"], name, type(name, (), {}))
        stubs["torchvision.transforms"].functional = stubs["torchvision.transforms.functional"]
        stubs["torchvision"].transforms = stubs["torchvision.transforms"]
        sys.modules.update(stubs)
    pytest.importorskip("torch_fidelity")
    return importlib.import_module(f"torch_fidelity.{module}")
