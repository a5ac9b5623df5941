"""``zoo:densenet22-mnist``: DenseNet-BC (Huang et al., 2017, arXiv:1608.06993) of 22 layers.

Three dense blocks of three layers with growth rate 12. Each layer is batch norm, ReLU, 1x1
convolution to 48 channels, batch norm, ReLU, 3x3 convolution, and adds its 12 maps to all that came
before. Transitions halve the maps and the resolution. The stem has a stride of 2, like that of the
networks for ImageNet.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_GROWTH = 12
_LAYERS = (3, 3, 3)


def _pre_activated(channels_in: int, channels: int, kernel: int) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(channels_in),
        nn.ReLU(),
        nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False),
    ]


class _Layer(nn.Module):
    """(n, channels, h, w) -> (n, channels + growth, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_pre_activated(channels, 4 * _GROWTH, 1), *_pre_activated(4 * _GROWTH, _GROWTH, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.body(x)], dim=1)


def _build() -> nn.Module:
    channels = 2 * _GROWTH
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False)]
    for block, count in enumerate(_LAYERS):
        if block:
            layers += [*_pre_activated(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(count):
            layers.append(_Layer(channels))
            channels += _GROWTH
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )


_ENTRY = mnist_classifier(
    "densenet22-mnist",
    "DenseNet-BC of 22 layers, growth 12, on 5000 MNIST digits.",
    _build,
    bar=0.97,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
