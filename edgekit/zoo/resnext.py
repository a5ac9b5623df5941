"""``zoo:resnext-mnist``: ResNeXt (Xie et al., 2017, arXiv:1611.05431) of cardinality 8.

Bottleneck blocks in the grouped form of figure 3c: 1x1 to half the width, a 3x3 convolution in 8
groups, 1x1 back, and the shortcut. Three stages of two blocks behind a stem with max pooling, for
28x28 pixels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_CARDINALITY = 8
_WIDTHS = (32, 64, 128)
_BLOCKS = 2


class _Block(nn.Module):
    """(n, channels_in, h, w) -> (n, channels, h / stride, w / stride)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // 2
        self.body = nn.Sequential(
            conv_bn(channels_in, inner, 1),
            conv_bn(inner, inner, 3, stride, groups=_CARDINALITY),
            conv_bn(inner, channels, 1, activation=None),
        )
        same = channels_in == channels and stride == 1
        self.shortcut = (
            nn.Identity() if same else conv_bn(channels_in, channels, 1, stride, activation=None)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def _build() -> nn.Module:
    before = 16
    layers: list[nn.Module] = [conv_bn(1, before, 3), nn.MaxPool2d(3, stride=2, padding=1)]
    for stage, width in enumerate(_WIDTHS):
        for block in range(_BLOCKS):
            layers.append(_Block(before, width, 2 if block == 0 and stage > 0 else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


_ENTRY = mnist_classifier(
    "resnext-mnist",
    "ResNeXt of 20 layers, cardinality 8, on 5000 MNIST digits.",
    _build,
    bar=0.97,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
