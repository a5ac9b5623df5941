"""The residual network of the MNIST models, at any width and depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._classification import Classifier
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["residual_classifier"]


def residual_classifier(
    name: str,
    description: str,
    widths: Sequence[int],
    blocks: int,
    bar: float = 0.98,
    smaller: Classifier | None = None,
    *,
    pool: bool = False,
) -> Classifier:
    """A residual network on 28x28 grey digits, of basic blocks (He et al., 2015, section 4.2).

    Args:
        name: its name in the zoo.
        description: one sentence.
        widths: channels of each stage; the first one keeps the resolution, the others halve it.
        blocks: residual blocks of two 3x3 convolutions in each stage.
        bar: the least accuracy of it.
        smaller: a smaller variant of it.
        pool: a max pooling in the stem halves the resolution before the first stage.
    """
    return mnist_classifier(
        name, description, lambda: _build(widths, blocks, pool=pool), bar=bar, smaller=smaller
    )


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 else nn.Conv2d(channels_in, channels, 1, stride)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def _build(widths: Sequence[int], blocks: int, *, pool: bool) -> nn.Module:
    stem = widths[0]
    stages = []
    for before, width in zip([stem, *widths], widths, strict=False):
        stages.append(_Block(before, width, 1 if before == width else 2))
        stages += [_Block(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(
        nn.Conv2d(1, stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        *([nn.MaxPool2d(3, stride=2, padding=1)] if pool else []),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], 10),
    )
