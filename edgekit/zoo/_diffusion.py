"""Diffusion: the schedule of noise, the loss, and the samplers of DDPM and DDIM.

The network predicts the velocity ``v = a * noise - s * image`` of Salimans and Ho (2022), where
``a`` and ``s`` are the shares of image and noise. That is DDPM's prediction of noise in other
coordinates. The clean image is ``a * x - s * v``: no division by a share that is nearly 0, which
few steps, and int8, would amplify.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Velocity", "ancestral", "ddim", "learn", "shares", "times", "velocity_loss"]

#: ``velocity(x, time)`` with times of shape (n,) or (1,), from 0 (an image) to 1 (noise).
Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def shares(time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of image and noise by Nichol and Dhariwal's cosine schedule (2021)."""
    angle = time * (math.pi / 2) * 0.99 + 0.008
    return torch.cos(angle), torch.sin(angle)


def velocity_loss(
    velocity: Velocity, image: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """The mean square error of the velocity, at times and with noise drawn at random."""
    time = torch.rand(len(image), generator=generator)
    noise = torch.randn(image.shape, generator=generator)
    a, s = (share[:, None, None, None] for share in shares(time))
    found = velocity(a * image + s * noise, time)
    return functional.mse_loss(found, a * noise - s * image)


def times(steps: int) -> list[float]:
    """The times that a sampler visits, from noise to the image."""
    return [1 - step / steps for step in range(steps + 1)]


def ddim(velocity: Velocity, x: torch.Tensor, steps: int, clip: float) -> torch.Tensor:
    """Song et al. (2021) without noise: what noise ``x`` becomes, in ``steps`` steps."""
    visited = times(steps)
    for now, then in pairwise(visited):
        x = _step(velocity, x, torch.tensor([now]), torch.tensor([then]), clip, None)
    return x


def ancestral(
    velocity: Velocity,
    x: torch.Tensor,
    now: torch.Tensor,
    then: torch.Tensor,
    clip: float,
    noise: torch.Tensor,
) -> torch.Tensor:
    """One step of DDPM (Ho et al. 2020), from the times ``now`` to ``then``, both (n,)."""
    return _step(velocity, x, now, then, clip, noise)


def _step(
    velocity: Velocity,
    x: torch.Tensor,
    now: torch.Tensor,
    then: torch.Tensor,
    clip: float,
    noise: torch.Tensor | None,
) -> torch.Tensor:
    """Equation 12 of DDIM; with ``noise`` its sigma is DDPM's, without it is 0."""
    a, s = (share[:, None, None, None] for share in shares(now))
    next_a, next_s = (share[:, None, None, None] for share in shares(then))
    image = (a * x - s * velocity(x, now)).clamp(-clip, clip)
    seen = (x - a * image) / s
    if noise is None:
        return next_a * image + next_s * seen
    variance = (next_s / s) ** 2 * (1 - (a / next_a) ** 2)
    return next_a * image + (next_s**2 - variance).sqrt() * seen + variance.sqrt() * noise


def learn(
    modules: Iterable[nn.Module],
    data: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    epochs: int,
    *,
    rate: float = 3e-3,
    batch: int = 64,
) -> None:
    """Train with AdamW and a one-cycle rate. ``loss(indices of a batch, generator)``."""
    learnt = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=rate, weight_decay=1e-2, fused=True)
    steps = epochs * (len(data) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for chosen in order[: len(data) // batch * batch].split(batch):
            optimizer.zero_grad()
            loss(chosen, generator).backward()
            nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            schedule.step()
