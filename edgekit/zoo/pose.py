"""``zoo:pose-figures``: where the fourteen joints of a stick figure are.

Heat maps by transposed convolutions behind an encoder (Xiao et al., 2018, Simple Baselines), and
from each its mean place by softmax (Sun et al., 2018, Integral Human Pose), so that the graph
itself gives coordinates, finer than the heat map's pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.reference import in_pieces
from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made
from edgekit.zoo._figures import JOINTS, SIDE, figures
from edgekit.zoo._layers import convolution

__all__ = ["ENTRIES", "workload"]

_WIDTHS = (16, 32, 48, 48)
_DECODED = 40
_STRIDE = 4
_CELLS = SIDE // _STRIDE
_BATCH = 15
_TRAINED, _CALIBRATED, _JUDGED = 1500, 100, 300
#: A joint is found where it is nearer than this share of the trunk (Yang and Ramanan, 2013).
_NEAR = 0.2


class _Pose(nn.Module):
    """Float32 images (n, 1, 64, 64) to joints (n, 14, 2), x and y in pixels."""

    places: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *_WIDTHS)
        self.encoder = nn.Sequential(
            *(_down(a, b) for a, b in zip(inputs, _WIDTHS, strict=False)),
            *convolution(_WIDTHS[-1], _WIDTHS[-1]),
        )
        self.decoder = nn.Sequential(_up(_WIDTHS[-1], _DECODED), _up(_DECODED, _DECODED))
        self.head = nn.Conv2d(_DECODED, len(JOINTS), 1)
        self.register_buffer(
            "places", (torch.arange(_CELLS) + 0.5) * _STRIDE - 0.5, persistent=False
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.head(self.decoder(self.encoder(image)))
        share = maps.flatten(2).softmax(-1).unflatten(2, (_CELLS, _CELLS))
        x = (share.sum(2) * self.places).sum(-1)
        y = (share.sum(3) * self.places).sum(-1)
        return torch.stack([x, y], -1)


def _down(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*convolution(channels_in, channels, 2), *convolution(channels, channels))


def _up(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        truth = _held_out()
        found = in_pieces(predict, _BATCH)({"image": truth["image"]})["joints"]
        distance = np.linalg.norm(found - truth["joints"], axis=-1)
        near = distance < _NEAR * truth["trunk"][:, None]
        return {"pck": float(near.mean()), "mean_error_pixels": float(distance.mean())}

    return Workload(
        name="pose-figures",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, SIDE, SIDE)},
        output_names=["joints"],
        calibration=lambda: in_order({"image": _calibration()}, _BATCH),
        evaluate=evaluate,
        metric=Metric("pck"),
        training=Training(
            _batches,
            lambda outputs, batch: functional.l1_loss(outputs["joints"], batch["joints"]),
        ),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    made = figures(_TRAINED, epoch, held_out=False)
    yield from shuffled({name: made[name] for name in ("image", "joints")}, _BATCH, epoch)


@cache
def _calibration() -> Array:
    return figures(_CALIBRATED, seed=1000, held_out=False)["image"]


@cache
def _held_out() -> dict[str, Array]:
    return figures(_JUDGED, seed=0, held_out=True)


_ENTRY = Made(
    name="pose-figures",
    family="dense prediction",
    description="Heat maps and soft-argmax: 14 joints of stick figures on photographs.",
    bar=0.9,
    source="PCK at 0.2 on FLIC (Tompson et al., 2015): elbows 0.93, wrists 0.89",
    build=_Pose,
    make=_around,
    epochs=20,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
