"""``zoo:pointnet-shapes``: which solid a cloud of any number of points lies on.

PointNet (Qi et al., 2017): the same small network for each point, then the maximum over all
points, which knows no order of them; and before that a network of the same kind that gives a 3x3
matrix to turn the cloud with. The paper's second such network, for features, is left out: by its
own table it adds little, and it is most of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from edgekit.reference import in_pieces
from edgekit.spec import BATCH, Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made
from edgekit.zoo._shapes import SHAPES, clouds

__all__ = ["ENTRIES", "workload"]

_BATCH = 20
_TRAINED, _CALIBRATED, _JUDGED = 2000, 100, 500
_POINTS = 128
#: Clouds of these sizes judge it, one size after the other.
_SIZES = (96, 128, 192)


class _PointNet(nn.Module):
    """Float32 clouds (n, points, 3) to logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(_Pooled((3, 32, 64, 128)), *_dense(128, 64), nn.Linear(64, 9))
        self.features = _Pooled((3, 32, 64, 256))
        self.head = nn.Sequential(*_dense(256, 128), nn.Dropout(0.3), nn.Linear(128, len(SHAPES)))
        last = self.turn[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # at first, the matrix is that which changes nothing
        with torch.no_grad():
            last.bias.copy_(torch.eye(3).flatten())

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        turned = points @ self.turn(points).unflatten(1, (3, 3))
        logits: torch.Tensor = self.head(self.features(turned))
        return logits


class _Pooled(nn.Module):
    """Clouds (n, points, 3) to features (n, c): the largest over the points."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise(widths):
            layers += [nn.Conv1d(before, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        self.each = nn.Sequential(*layers)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.each(points.transpose(1, 2)).amax(2)
        return made


def _dense(features_in: int, features: int) -> list[nn.Module]:
    return [nn.Linear(features_in, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()]


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        right = 0
        for points, labels in _held_out():
            logits = in_pieces(predict, 50)({"points": points})["logits"]
            right += int((logits.argmax(axis=1) == labels).sum())
        return {"accuracy": right / (_JUDGED * len(_SIZES))}

    return Workload(
        name="pointnet-shapes",
        model=model,
        example_inputs={"points": torch.zeros(2, _POINTS, 3)},
        output_names=["logits"],
        dynamic_shapes={"points": {0: BATCH, 1: "points"}},
        calibration=lambda: in_order({"points": _trained()[0][:_CALIBRATED]}, _BATCH),
        evaluate=evaluate,
        metric=Metric("accuracy"),
        labels=list(SHAPES),
        training=Training(
            _batches,
            lambda outputs, batch: functional.cross_entropy(
                outputs["logits"], batch["label"], label_smoothing=0.05
            ),
        ),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Turned anew in each epoch."""
    points, labels = _trained()
    generator = torch.Generator().manual_seed(epoch)
    for batch in shuffled({"points": points, "label": labels}, _BATCH, epoch):
        angle = torch.rand(len(batch["points"]), generator=generator) * 2 * torch.pi
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        rows = [angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero, zero, zero, one]
        turn = torch.stack(rows, 1).unflatten(1, (3, 3))
        yield {"points": batch["points"] @ turn, "label": batch["label"]}


@cache
def _trained() -> tuple[Array, Array]:
    return clouds(_TRAINED, _POINTS, seed=0)


@cache
def _held_out() -> list[tuple[Array, Array]]:
    return [clouds(_JUDGED, size, seed=size) for size in _SIZES]


_ENTRY = Made(
    name="pointnet-shapes",
    family="dense prediction",
    description="PointNet on clouds of any number of points: ten solids, turned around.",
    bar=0.95,
    source="a third of the error of a random forest on how far the points are from centre and axis",
    build=_PointNet,
    make=_around,
    epochs=16,
    rate=3e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
