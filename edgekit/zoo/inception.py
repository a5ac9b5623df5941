"""``zoo:googlenet-mnist``: GoogLeNet (Szegedy et al., 2014, arXiv:1409.4842) in miniature.

The paper's module: 1x1, 3x3 and 5x5 convolutions and a max pooling side by side, with 1x1
convolutions that make the larger ones cheap; two modules at each of three resolutions, mean over
pixels, dropout of 0.4, one dense layer. The stem has a stride of 2. With batch norm in place of
response normalization (Ioffe and Szegedy, 2015). Its two auxiliary classifiers, which help to train
22 layers, are not needed for 16.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]


class _Module(nn.Module):
    """(n, channels, h, w) -> (n, sum of the four branches, h, w).

    Args:
        channels: of its input.
        one: channels of the 1x1 branch.
        three: the 3x3 branch: channels that it is reduced to, and its own.
        five: likewise.
        pooled: channels behind the pooling.
    """

    def __init__(
        self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList([
            conv_bn(channels, one, 1),
            nn.Sequential(conv_bn(channels, three[0], 1), conv_bn(*three, 3)),
            nn.Sequential(conv_bn(channels, five[0], 1), conv_bn(*five, 5)),
            nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(channels, pooled, 1)),
        ])  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, padding=1)


def _build() -> nn.Module:
    return nn.Sequential(
        conv_bn(1, 16, 5, stride=2),
        conv_bn(16, 16, 1),
        conv_bn(16, 24, 3),
        _Module(24, 12, (12, 20), (4, 8), 8),
        _Module(48, 16, (16, 28), (4, 8), 8),
        _pool(),
        _Module(60, 24, (16, 32), (6, 12), 12),
        _Module(80, 24, (20, 40), (6, 12), 12),
        _pool(),
        _Module(88, 32, (24, 48), (8, 16), 16),
        _Module(112, 48, (24, 48), (8, 16), 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(128, 10),
    )


_ENTRY = mnist_classifier(
    "googlenet-mnist",
    "GoogLeNet's stem and six inception modules on 5000 MNIST digits.",
    _build,
    bar=0.975,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
