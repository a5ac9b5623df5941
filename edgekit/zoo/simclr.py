"""``zoo:simclr-mnist``: SimCLR (Chen et al., 2020, arXiv:2002.05709).

Of all views of a batch each one has to find the other view of its own image: cross-entropy over
cosines, of a projection that is thrown away afterwards.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._selfsupervised import FEATURES, perceptron, pretrained

__all__ = ["ENTRIES", "workload"]

_TEMPERATURE = 0.5  # the paper's for CIFAR-10


class _SimClr(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.project = nn.Sequential(encoder, perceptron(FEATURES, FEATURES, 64))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The loss NT-Xent of views (n, 1, 28, 28)."""
        views = functional.normalize(self.project(torch.cat([first, second])))
        count = len(first)
        itself = torch.eye(2 * count, dtype=torch.bool)
        cosines = (views @ views.T).masked_fill(itself, -torch.inf)
        other = torch.arange(2 * count).roll(count)
        return functional.cross_entropy(cosines / _TEMPERATURE, other)

    def follow(self, _done: float) -> None:
        """Nothing follows the encoder."""


_ENTRY = pretrained(
    "simclr-mnist",
    "SimCLR's encoder, learnt from 4000 MNIST digits without labels, judged by a linear probe.",
    _SimClr,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
