"""``zoo:nerf-balls``: a neural radiance field, the colours of rays through a small scene.

NeRF, Mildenhall et al. 2020: a coarse field says where along a ray there is something, a fine one
is sampled there, and volume rendering, which is part of the exported graph, gives the colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._rays import (
    Field,
    along,
    composite,
    edges,
    encode,
    finer,
    render,
    shuffled,
    some,
)
from edgekit.zoo._scene import HELD_OUT, TRAINED, psnr, rays_of, view

__all__ = ["ENTRIES", "workload"]

_COARSE, _FINE = 24, 24
_PLACE, _LOOK = 6, 2


class _Nerf(nn.Module):
    """Takes rays (n, 6), origin and direction; gives the colours of the fine and of the coarse
    field, (n, 3) each.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = 3 + 6 * _PLACE, 3 + 6 * _LOOK
        self.coarse, self.fine = Field(*sizes), Field(*sizes)

    def forward(self, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        borders = edges(rays, _COARSE, jitter=self.training)
        middle = (borders[:, 1:] + borders[:, :-1]) / 2
        rough, weights = self._render(self.coarse, rays, middle, borders[:, 1:] - borders[:, :-1])
        both, lengths = finer(borders, weights, _FINE, jitter=self.training)
        colour, _ = self._render(self.fine, rays, both, lengths)
        return colour, rough

    @staticmethod
    def _render(
        field: Field, rays: torch.Tensor, distances: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        place = encode(along(rays, distances), _PLACE)
        look = encode(rays[:, 3:], _LOOK).unsqueeze(1).expand(-1, distances.shape[1], -1)
        density, colour = field(place, look)
        return composite(density, colour, lengths)


@cache
def _rays() -> Array:
    return np.concatenate([rays_of(pose) for pose in TRAINED])


@cache
def _photographs() -> Array:
    return np.concatenate([view(pose) for pose in TRAINED])


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    error = nn.functional.mse_loss
    return error(outputs["colour"], batch["true"]) + error(outputs["coarse"], batch["true"])


def _evaluate(predict: Predict) -> dict[str, float]:
    shown = [render(predict, {"rays": rays_of(pose)}) for pose in HELD_OUT]
    return {"psnr": psnr(np.stack(shown), np.stack([view(pose) for pose in HELD_OUT]))}


def _around(model: nn.Module) -> Workload:
    return Workload(
        name="nerf-balls",
        model=model,
        example_inputs={"rays": torch.from_numpy(rays_of(HELD_OUT[0])[:2])},
        output_names=["colour", "coarse"],
        calibration=lambda: some({"rays": _rays()}),
        evaluate=_evaluate,
        metric=Metric("psnr", max_drop=0.28),  # dB: 1 %
        training=Training(
            lambda epoch: shuffled({"rays": _rays(), "true": _photographs()}, epoch), _loss
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="nerf-balls",
    family="neural fields",
    description="NeRF, coarse and fine, of three balls on a chequered floor; PSNR of unseen views.",
    bar=25.0,
    source="as a NeRF of a scene with a plain background has; the nearest training view has 19",
    build=_Nerf,
    make=_around,
    epochs=3,
    rate=5e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
