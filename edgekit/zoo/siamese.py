"""``zoo:siamese-mnist``: whether two images show the same digit.

A siamese network (Bromley et al., 1993) embeds both images with the same weights; the contrastive
loss (Hadsell, Chopra and LeCun, 2006) pulls equal ones together and pushes others apart, up to a
margin. It learns from the digits 0 to 6 and is judged on held-out images of these; how it does on
pairs of 7, 8 and 9, of which it never saw any, is told beside. Both images of a pair are turned by
the same quarter turns in training, which makes new classes of the few there are (Santoro et al.,
2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from edgekit.reference import in_pieces
from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._entry import Made
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "workload"]

_SEEN = range(7)
_UNSEEN = range(7, 10)
_MARGIN = 1.0
_BATCH = 64
_CALIBRATED, _JUDGED = 200, 2000


class _Siamese(nn.Module):
    """Two images (n, 1, 28, 28), float32 in [0, 1], to the distance of their embeddings (n,)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            conv_bn(1, 16, 5, 2),
            conv_bn(16, 32, 3, 2),
            conv_bn(32, 32, 3, 2),
            nn.Flatten(),
            nn.Linear(512, 32),
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        apart = self.embed(first) - self.embed(second)
        return (apart**2).sum(1).add(1e-8).sqrt()


def _contrastive(distance: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    return torch.where(same, distance, functional.relu(_MARGIN - distance)).square().mean()


def _pairs(labels: Array, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Rows of the first and the second ones, and whether their labels are equal: half of them."""
    random = np.random.default_rng(seed)
    first = random.integers(len(labels), size=count)
    same = np.arange(count) % 2 == 0
    second = np.empty_like(first)
    for label in np.unique(labels):
        for wanted in (True, False):
            rows = (labels[first] == label) & (same == wanted)
            second[rows] = random.choice(np.flatnonzero((labels == label) == wanted), rows.sum())
    return first, second, same


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    images, labels = _learnt()
    generator = torch.Generator().manual_seed(epoch)
    turns = np.random.default_rng(epoch)
    first, second, same = _pairs(labels, len(labels), seed=epoch)
    for start in range(0, len(labels), _BATCH):
        rows = slice(start, start + _BATCH)
        quarter = int(turns.integers(4))
        sides = [torch.from_numpy(images[side[rows]]) for side in (first, second)]
        turned = [torch.rot90(augment(side, generator), quarter, (2, 3)) for side in sides]
        yield {"first": turned[0], "second": turned[1], "same": torch.from_numpy(same[rows])}


@cache
def _learnt() -> tuple[Array, Array]:
    data = mnist()
    seen = np.isin(data.train_labels, _SEEN)
    return data.train_inputs[seen], data.train_labels[seen]


def _auc(predict: Predict, digits: range) -> float:
    """Over held-out pairs: how often an equal pair is closer than a different one."""
    data = mnist()
    chosen = np.isin(data.test_labels, digits)
    images = data.test_inputs[chosen]
    first, second, same = _pairs(data.test_labels[chosen], _JUDGED, seed=0)
    distance = predict({"first": images[first], "second": images[second]})["distance"]
    return float(roc_auc_score(same, -distance))


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        pieces = in_pieces(predict, _BATCH)
        return {"auc": _auc(pieces, _SEEN), "unseen_auc": _auc(pieces, _UNSEEN)}

    images, labels = _learnt()
    first, second, _ = _pairs(labels, _CALIBRATED, seed=1000)
    pairs = {"first": images[first], "second": images[second]}
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(side[:2]) for name, side in pairs.items()},
        output_names=["distance"],
        calibration=lambda: in_order(pairs, _BATCH),
        evaluate=evaluate,
        metric=Metric("auc"),
        training=Training(
            _batches, lambda outputs, batch: _contrastive(outputs["distance"], batch["same"])
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="siamese-mnist",
    family="dense prediction",
    description="Siamese network that tells whether two images show the same digit.",
    bar=0.96,
    source="a seventh of the error of the raw pixels' distance, whose AUC on these pairs is 0.72",
    build=_Siamese,
    make=_around,
    epochs=60,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
