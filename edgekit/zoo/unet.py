"""``zoo:unet-digits``: a U-Net that tells of every pixel which digit it belongs to.

Ronneberger et al., 2015: a contracting path of double 3x3 convolutions and max-pooling, an
expanding one of 2x2 transposed convolutions, and at each resolution a connection that carries the
detail across. Padding and batch normalization are those that everybody has added since.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.reference import in_pieces
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made
from edgekit.zoo._layers import convolution
from edgekit.zoo._scenes import Layout, Scenes, scenes

__all__ = ["ENTRIES", "workload"]

_LAYOUT = Layout()
_CLASSES = 11
_WIDTHS = (8, 16, 32, 64)
_BATCH = 10
_TRAINED, _CALIBRATED, _JUDGED = 1500, 100, 300


class _UNet(nn.Module):
    """Float32 images (n, 1, h, w), sides divisible by 8, to logits (n, 11, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *_WIDTHS)
        self.down = nn.ModuleList(_double(a, b) for a, b in pairwise(inputs))
        upwards = tuple(pairwise(_WIDTHS[::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in upwards)
        self.merge = nn.ModuleList(_double(2 * b, b) for _, b in upwards)
        self.head = nn.Conv2d(_WIDTHS[0], _CLASSES, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.down[0](image)
        kept = []
        for down in self.down[1:]:
            kept.append(x)
            x = down(functional.max_pool2d(x, 2))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        logits: torch.Tensor = self.head(x)
        return logits


def _double(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*convolution(channels_in, channels), *convolution(channels, channels))


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        truth = _held_out()
        logits = in_pieces(predict, _BATCH)({"image": truth.images})["logits"]
        predicted = logits.argmax(axis=1)
        pairs = np.bincount((truth.classes * _CLASSES + predicted).ravel(), minlength=_CLASSES**2)
        table = pairs.reshape(_CLASSES, _CLASSES)
        both = table.diagonal()
        overlap = both / (table.sum(0) + table.sum(1) - both)
        return {
            "mean_iou": float(overlap.mean()),
            "pixel_accuracy": float(both.sum() / table.sum()),
        }

    weight = torch.ones(_CLASSES)
    weight[0] = 0.2  # most pixels are background
    return Workload(
        name="unet-digits",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, _LAYOUT.side, _LAYOUT.side)},
        output_names=["logits"],
        calibration=lambda: in_order({"image": _calibration().images}, _BATCH),
        evaluate=evaluate,
        metric=Metric("mean_iou"),
        labels=["background", *map(str, range(10))],
        training=Training(
            _batches,
            lambda outputs, batch: functional.cross_entropy(
                outputs["logits"], batch["classes"], weight
            ),
        ),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    made = scenes(_TRAINED, _LAYOUT, seed=epoch, held_out=False)
    yield from shuffled({"image": made.images, "classes": made.classes}, _BATCH, epoch)


@cache
def _calibration() -> Scenes:
    return scenes(_CALIBRATED, _LAYOUT, seed=1000, held_out=False)


@cache
def _held_out() -> Scenes:
    return scenes(_JUDGED, _LAYOUT, seed=0, held_out=True)


_ENTRY = Made(
    name="unet-digits",
    family="dense prediction",
    description="U-Net that segments MNIST digits pasted on photographs, 48x48 pixels.",
    bar=0.75,
    source="mean IoU that DeepLab (Chen et al., 2018) reaches on PASCAL's photographs: 0.75 to 0.8",
    build=_UNet,
    make=_around,
    epochs=16,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
