"""The pixels of scikit-learn's digits as what they are: 64 whole numbers from 0 to 16.

So the likelihood of an image is a probability, and models that have one compare: bits per pixel
of VAE (a bound), flow and PixelCNN are of the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch

from edgekit.spec import Array, Feeds
from edgekit.workload import Training
from edgekit.zoo._classification import digits

__all__ = ["LEVELS", "PIXELS", "calibration", "held_out_levels", "train_levels", "training"]

LEVELS, PIXELS = 17, 64
_BATCH = 64
_CALIBRATED = 200


@cache
def train_levels() -> Array:
    """Int64 (1257, 1, 8, 8)."""
    return _levels(digits((1, 8, 8)).train_inputs)


@cache
def held_out_levels() -> Array:
    """Int64 (540, 1, 8, 8)."""
    return _levels(digits((1, 8, 8)).test_inputs)


def training(
    feeds: Callable[[torch.Tensor, torch.Generator], dict[str, torch.Tensor]],
    loss: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], torch.Tensor],
) -> Training:
    """Shuffled batches.

    Args:
        feeds: the inputs for levels (n, 1, 8, 8) and random numbers.
        loss: of outputs and a batch, which has the ``levels`` beside the inputs.
    """

    def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        levels = torch.from_numpy(train_levels())
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(levels), generator=generator)
        for chosen in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
            yield {**feeds(levels[chosen], generator), "levels": levels[chosen]}

    return Training(batches, lambda outputs, batch: loss(dict(outputs), dict(batch)))


def calibration(
    feeds: Callable[[torch.Tensor, torch.Generator], dict[str, torch.Tensor]],
) -> Callable[[], Iterator[Feeds]]:
    """The inputs for some of the training images."""

    def batches() -> Iterator[Feeds]:
        generator = torch.Generator().manual_seed(0)
        for levels in torch.from_numpy(train_levels()[:_CALIBRATED]).split(50):
            yield {name: x.numpy() for name, x in feeds(levels, generator).items()}

    return batches


def _levels(images: Array) -> Array:
    return np.rint(images * (LEVELS - 1)).astype(np.int64)
