"""``zoo:byol-mnist``: bootstrap your own latent (Grill et al., 2020, arXiv:2006.07733).

No view is pushed away from any other. A predictor on top of the encoder tells what a second
network says of the other view; that one is a running mean of the first, nearer to it at the
beginning than at the end.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._selfsupervised import FEATURES, follow, frozen, perceptron, pretrained

__all__ = ["ENTRIES", "workload"]

_HIDDEN, _LENGTH = 384, 96
_MOMENTUM = 0.95  # the paper's 0.99 to 0.996 is for hundreds of times as many steps


class _Byol(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.online = nn.Sequential(encoder, perceptron(FEATURES, _HIDDEN, _LENGTH))
        self.predict = perceptron(_LENGTH, _HIDDEN, _LENGTH)
        self.target = frozen(self.online)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The loss of views (n, 1, 28, 28), each predicted from the other."""
        return self._told(first, second) + self._told(second, first)

    def _told(self, seen: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            truth = self.target(hidden)
        cosine = functional.cosine_similarity(self.predict(self.online(seen)), truth)
        return 2 - 2 * cosine.mean()

    def follow(self, done: float) -> None:
        """The second network comes nearer, by less and less."""
        follow(self.target, self.online, 1 - (1 - _MOMENTUM) * (math.cos(math.pi * done) + 1) / 2)


_ENTRY = pretrained(
    "byol-mnist",
    "BYOL's encoder, learnt from 4000 MNIST digits without labels, judged by a linear probe.",
    _Byol,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
