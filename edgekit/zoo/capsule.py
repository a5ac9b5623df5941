"""``zoo:capsnet-mnist``: CapsNet (Sabour et al., 2017, arXiv:1710.09829), routing by agreement.

Capsules are vectors: their length tells whether something is there, their direction how it is. A
convolution makes the first ones; each of them predicts all ten digits' capsules by a matrix of its
own, and in three rounds it sends more to those digits whose capsule agrees with its prediction.
Smaller convolutions than the paper's, four kinds of first capsules instead of 32, and no decoder
that paints the digit again.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_CHANNELS = 24
_KINDS, _SIDE, _LENGTH = 4, 4, 8
_CLASSES, _CLASS_LENGTH = 10, 16
_ROUNDS = 3
_PRESENT, _ABSENT, _ABSENT_WEIGHT = 0.9, 0.1, 0.5


class _CapsNet(nn.Module):
    """Images (n, 1, 28, 28), float32, to the lengths of the digits' capsules, (n, 10) in [0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, _CHANNELS, 7, stride=2)
        self.primary = nn.Conv2d(_CHANNELS, _KINDS * _LENGTH, 5, stride=2)
        capsules = _KINDS * _SIDE**2
        shape = capsules, _LENGTH, _CLASSES * _CLASS_LENGTH
        self.matrices = nn.Parameter(torch.randn(shape) * 0.1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.primary(functional.relu(self.stem(image)))
        capsules = _squash(features.unflatten(1, (-1, _LENGTH)).flatten(3).transpose(2, 3))
        return _length(_route(self._votes(capsules.flatten(1, 2)))).squeeze(-1)

    def _votes(self, capsules: torch.Tensor) -> torch.Tensor:
        """(n, capsules, 8) -> (n, 10, capsules, 16)."""
        votes = (capsules.transpose(0, 1) @ self.matrices).transpose(0, 1)
        return votes.unflatten(2, (_CLASSES, _CLASS_LENGTH)).transpose(1, 2)


def _route(votes: torch.Tensor) -> torch.Tensor:
    """The digits' capsules, (n, 10, 16), of the votes for them, (n, 10, capsules, 16).

    In the first round each capsule sends a tenth to every digit, as softmax of equal logits says.
    """
    digits = _squash(votes.mean(2, keepdim=True) * (votes.shape[2] / _CLASSES))
    logits = torch.zeros_like(votes[..., :1])
    for _ in range(_ROUNDS - 1):
        logits = logits + (votes * digits).sum(-1, keepdim=True)
        digits = _squash((logits.softmax(1) * votes).sum(2, keepdim=True))
    return digits.squeeze(2)


def _squash(x: torch.Tensor) -> torch.Tensor:
    """The same direction; a length s becomes s^2 / (1 + s^2)."""
    length = _length(x)
    return x * (length / (1 + length**2))


def _length(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum(-1, keepdim=True).add(1e-8).sqrt()


def _margin_loss(lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A digit that is there has a length of 0.9 or more, the others of 0.1 or less."""
    truth = functional.one_hot(labels, _CLASSES)
    present = functional.relu(_PRESENT - lengths) ** 2
    absent = functional.relu(lengths - _ABSENT) ** 2
    return (truth * present + _ABSENT_WEIGHT * (1 - truth) * absent).sum(1).mean()


_ENTRY = mnist_classifier(
    "capsnet-mnist",
    "CapsNet with three rounds of routing by agreement, on 5000 MNIST digits.",
    _CapsNet,
    bar=0.97,
    epochs=15,
    loss=_margin_loss,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
