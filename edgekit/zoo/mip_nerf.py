"""``zoo:mip-nerf-balls``: a neural radiance field that knows how wide a pixel is.

Mip-NeRF, Barron et al. 2021: a pixel is a cone, and what is encoded is the mean of sine and cosine
over a piece of it, so a view from afar is smooth instead of aliased. One field is coarse and fine.
It is trained and judged on photographs of three sizes, whose pixels are means of finer ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._rays import Field, composite, edges, encode, render, resample, shuffled, some
from edgekit.zoo._scene import HELD_OUT, PIXEL, SIZE, TRAINED, Pose, psnr, rays_of, view

__all__ = ["ENTRIES", "workload"]

_INTERVALS, _PLACE, _LOOK = 24, 8, 2
#: How many times smaller the photographs are along a side.
_SCALES = (1, 2, 4)


class _MipNerf(nn.Module):
    """Takes cones (n, 7): origin, direction, and the radius at distance 1; gives the colours
    of the second and of the first rendering, (n, 3) each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.field = Field(6 * _PLACE, 3 + 6 * _LOOK)

    def forward(self, cones: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        borders = edges(cones, _INTERVALS, jitter=self.training)
        rough, weights = self._render(cones, borders)
        weights = _widened(weights.detach())
        finer = resample(borders, weights, _INTERVALS + 1, jitter=self.training)
        return self._render(cones, finer)[0], rough

    def _render(
        self, cones: torch.Tensor, borders: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        look = encode(cones[:, 3:6], _LOOK).unsqueeze(1).expand(-1, _INTERVALS, -1)
        density, colour = self.field(_encoded(cones, borders), look)
        return composite(density, colour, borders[:, 1:] - borders[:, :-1])


def _encoded(cones: torch.Tensor, borders: torch.Tensor) -> torch.Tensor:
    """Integrated positional encoding: the mean of sine and cosine over each piece of a cone.

    A piece is taken as a Gaussian; the paper's equations 7, 8 and 14.
    """
    middle, half = (borders[:, 1:] + borders[:, :-1]) / 2, (borders[:, 1:] - borders[:, :-1]) / 2
    square, other = middle**2, half**2
    both = 3 * square + other
    distance = middle + 2 * middle * other / both
    along = other / 3 - 4 / 15 * other**2 * (12 * square - other) / both**2
    across = cones[:, 6:7] ** 2 * (square / 4 + 5 / 12 * other - 4 / 15 * other**2 / both)
    directions = cones[:, None, 3:6]
    mean = cones[:, None, :3] + distance.unsqueeze(-1) * directions
    squared = directions**2
    variance = along.unsqueeze(-1) * squared + across.unsqueeze(-1) * (1 - squared)
    rates = [math.pi / 2 * 2**k for k in range(_PLACE)]
    angles = torch.cat([mean * rate for rate in rates], -1)
    damping = torch.exp(torch.cat([variance * (-0.5 * rate**2) for rate in rates], -1))
    return torch.cat([torch.sin(angles) * damping, torch.cos(angles) * damping], -1)


def _widened(weights: torch.Tensor) -> torch.Tensor:
    """The larger of neighbours, and the mean of these: an upper envelope (n, m) of the weights."""
    padded = torch.cat([weights[:, :1], weights, weights[:, -1:]], 1)
    larger = torch.maximum(padded[:, 1:], padded[:, :-1])
    return (larger[:, 1:] + larger[:, :-1]) / 2 + 0.01


def _cones(pose: Pose, scale: int) -> Array:
    rays = rays_of(pose, SIZE // scale)
    # A cone's disc has the variance of a square pixel.
    radius = np.full((len(rays), 1), PIXEL * scale / math.sqrt(3), np.float32)
    return np.concatenate([rays, radius], 1)


def _photograph(pose: Pose, scale: int) -> Array:
    size = SIZE // scale
    fine = view(pose).reshape(size, scale, size, scale, 3)
    photograph: Array = fine.mean((1, 3)).reshape(-1, 3)
    return photograph


def _each(poses: Sequence[Pose]) -> list[tuple[Pose, int]]:
    return [(pose, scale) for scale in _SCALES for pose in poses]


@cache
def _inputs(poses: Sequence[Pose]) -> Array:
    return np.concatenate([_cones(*one) for one in _each(poses)])


@cache
def _true(poses: Sequence[Pose]) -> dict[str, Array]:
    """Colours (n, 3); ``area`` (n, 1) is how many of the smallest pixels each one is."""
    photographs = [_photograph(*one) for one in _each(poses)]
    areas = np.repeat([scale**2 for _, scale in _each(poses)], [len(one) for one in photographs])
    return {"true": np.concatenate(photographs), "area": areas[:, None].astype(np.float32)}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Large pixels count for the small ones that they stand for."""
    fine, rough = ((outputs[name] - batch["true"]) ** 2 for name in ("colour", "coarse"))
    loss: torch.Tensor = (batch["area"] * (fine + 0.1 * rough)).sum() / (3 * batch["area"].sum())
    return loss


def _evaluate(predict: Predict) -> dict[str, float]:
    """The mean over the sizes; ``psnr_40`` and so on are those of one."""
    data = _true(HELD_OUT)
    shown = render(predict, {"cones": _inputs(HELD_OUT)})
    found = {}
    for scale in _SCALES:
        chosen = data["area"][:, 0] == scale**2
        found[f"psnr_{SIZE // scale}"] = psnr(shown[chosen], data["true"][chosen])
    return {"psnr": float(np.mean(list(found.values()))), **found}


def _around(model: nn.Module) -> Workload:
    return Workload(
        name="mip-nerf-balls",
        model=model,
        example_inputs={"cones": torch.from_numpy(_cones(HELD_OUT[0], 1)[:2])},
        output_names=["colour", "coarse"],
        calibration=lambda: some({"cones": _inputs(TRAINED)}),
        evaluate=_evaluate,
        metric=Metric("psnr", max_drop=0.28),  # dB: 1 %
        training=Training(
            lambda epoch: shuffled({"cones": _inputs(TRAINED), **_true(TRAINED)}, epoch), _loss
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="mip-nerf-balls",
    family="neural fields",
    description="Mip-NeRF, cones instead of rays; PSNR of unseen views of three sizes.",
    bar=25.0,
    source="as a NeRF of a scene with a plain background has; the nearest training view has 20.6",
    build=_MipNerf,
    make=_around,
    epochs=3,
    rate=5e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
