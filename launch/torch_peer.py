"""PyTorch's side of versus_torch.py: diffusers' network for a run of ours, and its two steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from ddpm_jax.run.run import Run
from ddpm_jax.weights import diffusers

Take = Callable[[int], Any]  # takes so many steps and waits for them


class Peer(NamedTuple):
    """PyTorch's side: the network to look at, and the function of it that may be compiled."""

    network: UNet2DModel
    predict: Callable[..., torch.Tensor]
    device: torch.device
    alpha_bar: torch.Tensor


def peer(run: Run, eager: bool) -> Peer:
    """PyTorch's side of a run, on the same kind of device as ours."""
    device = torch.device("cpu" if run.mesh.devices.flat[0].platform == "cpu" else "cuda")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    network = UNet2DModel.from_config(diffusers.network_config(run.model))
    network = network.to(device, memory_format=torch.channels_last)

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return network(x_t, t, return_dict=False)[0].float()

    alpha_bar = torch.tensor(np.asarray(run.model.sched.alpha_bar[1:], np.float32), device=device)
    return Peer(network, predict if eager else torch.compile(predict), device, alpha_bar)


def noised(peer: Peer, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_t, t and eps of a batch of bytes, half of its images flipped."""
    count = len(batch)
    x_0 = batch.float() * (2.0 / 255.0) - 1.0
    coin = torch.rand(count, 1, 1, 1, device=peer.device) < 0.5
    x_0 = torch.where(coin, x_0.flip(3), x_0)
    t = torch.randint(0, len(peer.alpha_bar), (count,), device=peer.device)
    eps, abar = torch.randn_like(x_0), peer.alpha_bar[t].view(-1, 1, 1, 1)
    return abar.sqrt() * x_0 + (1.0 - abar).sqrt() * eps, t, eps


def training(run: Run, peer: Peer) -> Take:
    params = list(peer.network.parameters())
    adam = torch.optim.Adam(params, lr=1e-6, fused=True)
    ema = [param.detach().clone() for param in params]
    batch = images(run, peer, run.train.batch_size)

    def take(steps: int) -> None:
        peer.network.train()
        for _ in range(steps):
            x_t, t, eps = noised(peer, batch)
            torch.nn.functional.mse_loss(peer.predict(x_t, t), eps).backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(ema, params, 1e-4)
        wait(peer)

    return take


def sampling(run: Run, peer: Peer) -> Take:
    """Algorithm 2's step, x_0 clipped, noise with the variance beta."""
    shape = images(run, peer, run.sample.batch_size).shape
    x = torch.randn(shape, device=peer.device).to(memory_format=torch.channels_last)
    last = len(peer.alpha_bar) - 1
    abar, before = peer.alpha_bar[last], peer.alpha_bar[last - 1]
    beta = 1.0 - abar / before
    ts = torch.full((len(x),), last, device=peer.device)

    def take(steps: int) -> None:
        nonlocal x
        peer.network.eval()
        with torch.no_grad():
            for _ in range(steps):
                eps = peer.predict(x, ts)
                x_0 = ((x - (1.0 - abar).sqrt() * eps) / abar.sqrt()).clamp(-1.0, 1.0)
                mean = before.sqrt() * beta * x_0 + (1.0 - beta).sqrt() * (1.0 - before) * x
                x = mean / (1.0 - abar) + beta.sqrt() * torch.randn_like(x)
        wait(peer)

    return take


def images(run: Run, peer: Peer, count: int) -> torch.Tensor:
    height, width, channels = run.model.shape
    shape = count, channels, height, width
    random = torch.randint(0, 256, shape, dtype=torch.uint8, device=peer.device)
    return random.to(memory_format=torch.channels_last)


def wait(peer: Peer) -> None:
    if peer.device.type == "cuda":
        torch.cuda.synchronize()


def flops(peer: Peer, x: torch.Tensor, train: bool) -> int:
    """Of convolutions and matrix products, and with 'train' of their gradients."""
    with FlopCounterMode(display=False) as counted:
        t = torch.zeros(len(x), dtype=torch.long, device=peer.device)
        with torch.set_grad_enabled(train):
            out = peer.network(x, t, return_dict=False)[0]
            if train:
                out.sum().backward()
    peer.network.zero_grad(set_to_none=True)
    return counted.get_total_flops()
