"""``zoo:prelu-mnist`` and ``zoo:apl-mnist``: networks that learn their activation functions.

PReLU (He et al., 2015, arXiv:1502.01852) learns the slope below zero, one a channel. Adaptive
piecewise linear units (Agostinelli et al., 2014, arXiv:1412.6830) learn where a channel's function
bends, too: relu(x) + sum over s of slope_s relu(bend_s - x).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES"]

_WIDTHS = (16, 32, 64)
_HINGES = 2


class _PiecewiseLinear(nn.Module):
    """(n, c, h, w) -> the same shape; every channel has a function of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.randn(_HINGES, channels, 1, 1) * 0.1)
        self.bends = nn.Parameter(torch.randn(_HINGES, channels, 1, 1) * 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(x)
        for slope, bend in zip(self.slopes.unbind(), self.bends.unbind(), strict=True):
            y = y + slope * functional.relu(bend - x)
        return y


def _build(activation: Callable[[int], nn.Module]) -> nn.Module:
    """Two 3x3 convolutions of each width but the first, the second of which halves the size."""
    layers: list[nn.Module] = [_block(1, _WIDTHS[0], 1, activation), nn.MaxPool2d(2)]
    for before, width in pairwise(_WIDTHS):
        layers += [_block(before, width, 1, activation), _block(width, width, 2, activation)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], 10))


def _block(
    channels_in: int, channels: int, stride: int, activation: Callable[[int], nn.Module]
) -> nn.Sequential:
    return conv_bn(channels_in, channels, 3, stride, activation=None).append(activation(channels))


ENTRIES = (
    mnist_classifier(
        "prelu-mnist",
        "Convolutional network with a learnt slope below zero a channel, on 5000 MNIST digits.",
        lambda: _build(nn.PReLU),
    ),
    mnist_classifier(
        "apl-mnist",
        "Convolutional network with learnt piecewise linear activations, on 5000 MNIST digits.",
        lambda: _build(_PiecewiseLinear),
    ),
)
