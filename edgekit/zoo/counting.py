"""``zoo:fcrn-cells``: counts the cells in a picture of a microscope by their density.

A fully convolutional regression network (Xie et al., 2016, FCRN-A): its output is cells per pixel,
so that their sum over the picture, or over any part of it, is a count, and cells that lie on each
other are no problem. The cells here are small, so that it halves the resolution twice, not three
times.
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
from edgekit.zoo._cells import SIDE, pictures
from edgekit.zoo._entry import Made
from edgekit.zoo._layers import convolution

__all__ = ["ENTRIES", "workload"]

_WIDTHS = (16, 32, 48)
_BATCH = 10
_TRAINED, _CALIBRATED, _JUDGED = 800, 100, 200
#: Densities are small numbers: the network computes so many times as much, as Xie et al. do.
_SCALE = 100.0


class _Fcrn(nn.Module):
    """Float32 pictures (n, 1, 64, 64) to cells per pixel (n, 1, 64, 64), and their sum (n)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = _WIDTHS
        self.down = nn.Sequential(
            convolution(1, a), nn.MaxPool2d(2), convolution(a, b), nn.MaxPool2d(2),
            convolution(b, c), convolution(c, c),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), convolution(c, b),
            nn.Upsample(scale_factor=2, mode="bilinear"), convolution(b, a),
        )  # fmt: skip
        self.head = nn.Conv2d(a, 1, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        density = self.head(self.up(self.down(image))) / _SCALE
        return density, density.sum((1, 2, 3))


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        truth = _held_out()
        counts = in_pieces(predict, _BATCH)({"image": truth["image"]})["count"]
        wrong = np.abs(counts - truth["count"])
        return {"mean_absolute_error": float(wrong.mean()), "largest_error": float(wrong.max())}

    return Workload(
        name="fcrn-cells",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, SIDE, SIDE)},
        output_names=["density", "count"],
        calibration=lambda: in_order({"image": _calibration()}, _BATCH),
        evaluate=evaluate,
        # A tenth of a cell, where there are 35 on the average.
        metric=Metric("mean_absolute_error", higher_is_better=False, max_drop=0.1),
        training=Training(
            _batches,
            lambda outputs, batch: functional.mse_loss(
                outputs["density"] * _SCALE, batch["density"] * _SCALE
            ),
        ),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Mirrored at random, half of them about the diagonal, too."""
    made = _trained()
    generator = torch.Generator().manual_seed(epoch)
    for batch in shuffled({k: made[k] for k in ("image", "density")}, _BATCH, epoch):
        axes = [axis for axis in (2, 3) if torch.rand((), generator=generator) < 0.5]
        turned = {name: values.flip(axes) for name, values in batch.items()}
        across = bool(torch.rand((), generator=generator) < 0.5)
        yield {k: values.transpose(2, 3) if across else values for k, values in turned.items()}


@cache
def _trained() -> dict[str, Array]:
    return pictures(_TRAINED, seed=0)


@cache
def _calibration() -> Array:
    return pictures(_CALIBRATED, seed=1)["image"]


@cache
def _held_out() -> dict[str, Array]:
    return pictures(_JUDGED, seed=2)


_ENTRY = Made(
    name="fcrn-cells",
    family="dense prediction",
    description="FCRN counts generated fluorescent cells by their density, 64x64 pixels.",
    bar=2.0,
    source="three fifths of the error of a Laplacian of Gaussian's blobs, 3.4 on these pictures",
    build=_Fcrn,
    make=_around,
    epochs=20,
    rate=4e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
