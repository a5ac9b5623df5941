"""``zoo:convnext-mnist``: ConvNeXt (Liu et al., 2022, arXiv:2201.03545), a transformer's manners
for a convolutional network.

Patches instead of a stem, 7x7 depthwise convolutions, one layer norm and one GELU a block, an
inverted bottleneck of four times the width, a learnt scale of each block's result, and layer norm
before each change of resolution. Three stages of one block and 2x2 patches, for 28x28 pixels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_WIDTHS = (16, 32, 64)
#: The paper's 1e-6 is for networks of tens of blocks.
_SCALE = 1.0


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (n, c, h, w)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """(n, c, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.reduce = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), _SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.reduce(functional.gelu(self.expand(y))) * self.scale
        return x + y.permute(0, 3, 1, 2)


def _build() -> nn.Module:
    before = _WIDTHS[0]
    layers: list[nn.Module] = [nn.Conv2d(1, before, 2, stride=2), _ChannelNorm(before)]
    for width in _WIDTHS:
        if width != before:
            layers += [_ChannelNorm(before), nn.Conv2d(before, width, 2, stride=2)]
        layers.append(_Block(width))
        before = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(before)]
    return nn.Sequential(*layers, *pooled, nn.Linear(before, 10))


_ENTRY = mnist_classifier(
    "convnext-mnist",
    "ConvNeXt of three stages with 7x7 depthwise convolutions, on 5000 MNIST digits.",
    _build,
    bar=0.97,
    epochs=22,
    rate=4e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
