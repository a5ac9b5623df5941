"""``zoo:senet-mnist`` and ``zoo:cbam-mnist``: residual networks that weigh their own features.

Squeeze-and-excitation (Hu et al., 2017, arXiv:1709.01507) multiplies each channel by a factor that
two layers make of all channels' means. CBAM (Woo et al., 2018, arXiv:1807.06521) makes that factor
of the means and the maxima, and a second one for each position, by a 7x7 convolution over the
means and maxima of its channels. Both stand at the end of a block, before the sum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES"]

_WIDTHS = (16, 32, 64)
_REDUCTION = 4


class _Excitation(nn.Module):
    """Squeeze-and-excitation, (n, c, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = _bottleneck(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factors = torch.sigmoid(self.mlp(x.mean((2, 3))))
        return x * factors[:, :, None, None]


class _Cbam(nn.Module):
    """Attention to channels, then to positions, (n, c, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = _bottleneck(channels)
        self.spatial = conv_bn(2, 1, 7, activation=nn.Sigmoid)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factors = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * factors[:, :, None, None]
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        weighted: torch.Tensor = x * self.spatial(seen)
        return weighted


def _bottleneck(channels: int) -> nn.Sequential:
    inner = channels // _REDUCTION
    return nn.Sequential(nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels))


class _Block(nn.Module):
    """(n, channels_in, h, w) -> (n, channels, h / 2, w / 2), or the same where channels are."""

    def __init__(
        self, channels_in: int, channels: int, attention: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        stride = 1 if channels_in == channels else 2
        self.body = nn.Sequential(
            conv_bn(channels_in, channels, 3, stride),
            conv_bn(channels, channels, 3, activation=None),
            attention(channels),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else conv_bn(channels_in, channels, 1, stride, activation=None)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def _build(attention: Callable[[int], nn.Module]) -> nn.Module:
    stem = _WIDTHS[0]
    blocks = [
        _Block(before, width, attention)
        for before, width in zip((stem, *_WIDTHS), _WIDTHS, strict=False)
    ]
    return nn.Sequential(
        conv_bn(1, stem, 3),
        nn.MaxPool2d(3, stride=2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(_WIDTHS[-1], 10),
    )


ENTRIES = (
    mnist_classifier(
        "senet-mnist",
        "Squeeze-and-excitation network, channels weighted by the image, on 5000 MNIST digits.",
        lambda: _build(_Excitation),
    ),
    mnist_classifier(
        "cbam-mnist",
        "CBAM, attention to channels and positions in each block, on 5000 MNIST digits.",
        lambda: _build(_Cbam),
    ),
)
