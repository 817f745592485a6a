"""Specifications of accelerators, per device as jax counts devices, and the existing TPU slices.

Memory is what the TPU compiler allows a program (libtpu 0.0.42.1 prints it if a program does not fit).
Peak bfloat16 FLOP/s and memory bandwidth: cloud.google.com/tpu/docs, one page per generation; a device
of v2, v3 and TPU7x is half a chip. Clocks: Jouppi et al. 2023 (arXiv:2304.01433), Table 1, up to v4; for
v5e and v5p, derived from peak FLOP/s and 4 units of 128x128 per core; the others are not published.
GPUs: NVIDIA's data sheets, dense bfloat16 or float16 tensor cores.
"""

import math
from typing import NamedTuple

GIB = 1 << 30


class Chip(NamedTuple):
    """A TPU chip."""

    devices: int  # per chip
    memory: float  # GiB per device
    clock: float | None  # GHz
    flops: float  # peak, bfloat16
    bandwidth: float  # bytes/s


CHIPS = {
    "TPU v2": Chip(2, 7.48, 0.70, 23e12, 350e9),
    "TPU v3": Chip(2, 15.48, 0.94, 61.5e12, 450e9),
    "TPU v4": Chip(1, 30.75, 1.05, 275e12, 1228e9),
    "TPU v5 lite": Chip(1, 15.75, 1.50, 197e12, 819e9),
    "TPU v5": Chip(1, 95.74, 1.75, 459e12, 2765e9),
    "TPU v6 lite": Chip(1, 31.25, None, 918e12, 1638e9),
    "TPU7x": Chip(2, 94.75, None, 1153e12, 3690e9),
}
GPUS = {  # by a substring of the name; longer ones first
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}


class Slice(NamedTuple):
    """A group of chips with its own network, which a topology names."""

    kind: str  # a key of CHIPS
    chips: int
    options: dict  # of the compiler, besides the topology's name

    @property
    def devices(self) -> int:
        return self.chips * CHIPS[self.kind].devices


FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
SHAPES = {
    "v2": ("TPU v2", ("2x2", "4x4", "8x8", "16x16")),
    "v3": ("TPU v3", ("2x2", "4x4", "8x8", "16x16", "32x32")),
    "v4": ("TPU v4", CUBES),
    "v5e": ("TPU v5 lite", ("1x1", *FLAT)),
    "v5p": ("TPU v5", CUBES),
    "v6e": ("TPU v6 lite", ("1x1", *FLAT)),
    "tpu7x": ("TPU7x", CUBES),
}


def parse_topology(topology: str) -> Slice:
    """Returns the slice that a topology names. Raises ValueError, with all names, for an unknown one."""
    generation, _, shape = topology.partition(":")
    kind, shapes = SHAPES.get(generation, ("", ()))
    if shape not in shapes:
        known = "; ".join(f"{name}:{' '.join(all_)}" for name, (_, all_) in SHAPES.items())
        raise ValueError(f"unknown topology {topology!r}; use local, or one of {known}")
    options = {}
    if shape == "1x1":
        options["chips_per_host_bounds"] = (1, 1, 1)
    if generation == "v4":
        options["chip_config_name"] = "megacore"  # two cores are one device, as in jax
    return Slice(kind, math.prod(map(int, shape.split("x"))), options)


def memory(device_kind: str) -> int | None:
    """Returns the bytes of a device's memory that a program may use, or None if unknown."""
    chip = CHIPS.get(device_kind)
    return None if chip is None else round(chip.memory * GIB)


def chips(device_kind: str, devices: int) -> int | None:
    """Returns the number of chips of so many devices, or None for a device that is not a TPU's."""
    chip = CHIPS.get(device_kind)
    return None if chip is None else -(-devices // chip.devices)


def peak_flops(device_kind: str) -> float | None:
    """Returns a device's peak bfloat16 FLOP/s, or None if unknown, as for a CPU."""
    if device_kind in CHIPS:
        return CHIPS[device_kind].flops
    return next((flops for name, flops in GPUS.items() if name in device_kind), None)
