"""This package and PyTorch side by side: the same network and the same step, in one run, in turns.

    pip install -e '.[peers]'
    python launch/versus_torch.py --config=configs/cifar10.py --batch=128 --samples=256

PyTorch's network is diffusers' UNet2DModel, for cifar10 as google/ddpm-cifar10-32 configures it. Its
step is what ours is: flips, noise, loss, gradient, global clip, Adam (fused), EMA of the weights; it is
channels last, under torch.compile unless --eager says no. Both run in bfloat16 on GPUs, in float32 on
CPUs, and must have equally many parameters. In every round each is timed for about --seconds, so both
see the same machine; what is printed is the median over rounds with its quartiles. FLOPs are those that
PyTorch counts of convolutions and matrix products, for both. On a GPU, ask for several batches in turn:
--batch=1024, or --config=configs/celebahq256.py --batch=64 --samples=32.
"""

import argparse
import math
import os
import runpy
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory too

import jax
import numpy as np
import torch
import torch_peer
from etils import epath

from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.profiling import benchmark, hardware, preflight, topology
from ddpm_jax.run import state
from ddpm_jax.run.run import Run

Take = torch_peer.Take


def our_run(options: argparse.Namespace) -> Run:
    """The config's, on one device, of images that need not be there."""
    config = runpy.run_path(options.config)["get_config"]()
    config.train.batch_size, config.sample.batch_size = options.batch, options.samples
    config.parallel.devices = 1
    if options.channels:
        config.model.channels = options.channels
    return preflight.build_run(config, epath.Path(os.devnull), topology.LOCAL)


def our_training(run: Run) -> Take:
    take, _ = benchmark.training(run)
    shape = run.train.batch_size, *run.model.shape
    batch = np.random.default_rng(0).integers(0, run.model.levels, shape).astype(np.uint8)
    return partial(take, repeat(mesh.put(run.mesh, source.Batch(batch))))


def our_sampling(run: Run) -> Take:
    take, _ = benchmark.sampling(run)
    return take


def in_turns(
    made: dict[str, Callable[[], Take]], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of a step of each, a number a round; compiled and warmed up before."""
    clock = time.process_time if options.cpu_time else time.perf_counter

    def seconds_of(take: Callable[[], Any]) -> float:
        since = clock()
        take()
        return clock() - since

    found, takes, steps = {name: [] for name in made}, {}, {}
    for name, make in made.items():
        began = time.perf_counter()
        takes[name] = make()
        takes[name](1)
        print(f"  {name}: ready in {time.perf_counter() - began:.1f} s", flush=True)
        one = seconds_of(partial(takes[name], 1))
        steps[name] = max(1, math.ceil(options.seconds / one))
    for _ in range(options.rounds):
        for name, take in takes.items():
            time.sleep(0.5)  # the other's threads spin for a while before they sleep
            found[name].append(seconds_of(partial(take, steps[name])) / steps[name])
    return found


def say(what: str, count: int, found: dict[str, list[float]], work: float, peak: float | None):
    """A row for each, and the ratio of their images a second."""
    for name, seconds in found.items():
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        share = f", {work / median / peak:.1%} of peak" if peak else ""
        print(
            f"{what}, {count} images, {name}: {count / median:.4g} images/s, {1e3 * median:.4g} ms"
            f" ({1e3 * low:.4g}-{1e3 * high:.4g}), {work / median / 1e9:.4g} GFLOP/s{share}"
        )
    ours, theirs = found.values()
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    best = min(theirs) / min(ours)
    print(f"{what}: ratio {middle:.3f} ({low:.3f}-{high:.3f}), of the best {best:.3f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/cifar10.py")
    parser.add_argument("--batch", type=int, default=128, help="images of a train step")
    parser.add_argument("--samples", type=int, default=256, help="images of a sampling step")
    parser.add_argument("--channels", type=int, help="for a narrower network")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each, a round")
    parser.add_argument("--eager", action="store_true", help="PyTorch without torch.compile")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="seconds of this process's on all cores, not of the clock: on a CPU that others use too",
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    run = our_run(options)
    other = torch_peer.peer(run, options.eager)
    kind = run.mesh.devices.flat[0].device_kind
    ours = sum(leaf.size for leaf in jax.tree.leaves(state.abstract(run).params))
    theirs = sum(param.numel() for param in other.network.parameters())
    if ours != theirs:
        raise SystemExit(f"{ours:,} parameters are ours and {theirs:,} PyTorch's")
    name = f"torch {torch.__version__} {'eager' if options.eager else 'compiled'}"
    print(f"{kind}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch's, {name}")
    print(f"seconds are {'of CPU time' if options.cpu_time else 'by the clock'}")
    print(f"jax {jax.__version__}; {ours:,} parameters each; {run.model.network.dtype.__name__}")
    peak, one = hardware.peak_flops(kind), torch_peer.images(run, other, 1).float()
    steps = {
        "train step": (run.train.batch_size, our_training, torch_peer.training),
        "sampling step": (run.sample.batch_size, our_sampling, torch_peer.sampling),
    }
    for what, (count, of_ours, of_theirs) in steps.items():
        work = count * torch_peer.flops(other, one, what == "train step")
        takes = {"ours": partial(of_ours, run), name: partial(of_theirs, run, other)}
        say(what, count, in_turns(takes, options), work, peak)


if __name__ == "__main__":
    main()
