"""``zoo:lenet5-mnist``: LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998, Proc. IEEE 86(11)).

C1, S2, C3, S4, C5, F6 as section II.B has them: the scaled tanh, subsampling with a trainable
coefficient and bias for each map, and C3's table of which maps of S2 each of its maps sees. The
paper's 32x32 frame is a padding of 2 around 28x28 pixels. The output layer is linear, with cross
entropy, where the paper has Euclidean distances to drawn codes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "SEEN", "workload"]

#: Table I: the maps of S2 that each map of C3 sees.
SEEN = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class _Tanh(nn.Module):
    """The paper's squashing function, which maps 1 to 1 and -1 to -1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class _Subsampling(nn.Module):
    """The mean of 2x2 pixels, times a coefficient, plus a bias, one of each a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 2) * self.coefficient + self.bias


def _c3() -> nn.Conv2d:
    """C3; what is zero in it stays zero in training, so the table holds."""
    layer = nn.Conv2d(6, len(SEEN), 5)
    with torch.no_grad():
        for weights, seen in zip(layer.weight, SEEN, strict=True):
            weights[[i for i in range(6) if i not in seen]] = 0.0
    return layer


def _build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        _Tanh(),
        _Subsampling(6),
        _Tanh(),
        _c3(),
        _Tanh(),
        _Subsampling(16),
        _Tanh(),
        nn.Conv2d(16, 120, 5),
        _Tanh(),
        nn.Flatten(),
        nn.Linear(120, 84),
        _Tanh(),
        nn.Linear(84, 10),
    )


_ENTRY = mnist_classifier(
    "lenet5-mnist",
    "LeNet-5 with its tanh, trainable subsampling and connection table, on 5000 MNIST digits.",
    _build,
    bar=0.97,
    epochs=30,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
