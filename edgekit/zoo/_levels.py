"""The pixels of scikit-learn's digits as what they are: 64 whole numbers from 0 to 16.

So the likelihood of an image is a probability, and models that have one compare: bits per pixel
of VAE (a bound), flow and PixelCNN are of the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._classification import digits
from edgekit.zoo._entry import Made

__all__ = ["LEVELS", "PIXELS", "held_out_levels", "likelihood", "train_levels"]

LEVELS, PIXELS = 17, 64
_BATCH = 64
_CALIBRATED = 200

_Feeds: TypeAlias = Callable[[torch.Tensor, torch.Generator], dict[str, torch.Tensor]]
_Bits: TypeAlias = Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], torch.Tensor]


@cache
def train_levels() -> Array:
    """Int64 (1257, 1, 8, 8)."""
    return _levels(digits((1, 8, 8)).train_inputs)


@cache
def held_out_levels() -> Array:
    """Int64 (540, 1, 8, 8)."""
    return _levels(digits((1, 8, 8)).test_inputs)


def likelihood(
    name: str,
    description: str,
    build: Callable[[], nn.Module],
    *,
    outputs: Sequence[str],
    feeds: _Feeds,
    bits: _Bits,
    bar: float,
    source: str,
    epochs: int,
    rate: float,
) -> Made:
    """A model that tells how likely an image is.

    Args:
        name: its name in the zoo.
        description: one sentence.
        build: makes the untrained module.
        outputs: names of what it gives.
        feeds: its inputs for levels (n, 1, 8, 8) and random numbers.
        bits: a pixel, of outputs and a batch, which has the ``levels`` beside the inputs. It is
            trained by that, and judged.
        bar: how many there are at most.
        source: where the bar comes from.
        epochs: passes over the training images.
        rate: the highest learning rate.
    """
    return Made(
        name=name,
        family="generative",
        description=description,
        bar=bar,
        source=source,
        build=build,
        make=lambda model: Workload(
            name=name,
            model=model,
            example_inputs=feeds(_held_out()[:2], torch.Generator().manual_seed(1)),
            output_names=outputs,
            calibration=lambda: _calibration(feeds),
            evaluate=lambda predict: _evaluate(predict, feeds, bits),
            metric=Metric("bits_per_pixel", higher_is_better=False, max_drop=0.02),  # 1 %
            training=Training(
                lambda epoch: _batches(feeds, epoch),
                lambda made, batch: bits(dict(made), dict(batch)),
            ),
            description=description,
        ),
        epochs=epochs,
        rate=rate,
    )


def _held_out() -> torch.Tensor:
    return torch.from_numpy(held_out_levels())


def _batches(feeds: _Feeds, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    levels = torch.from_numpy(train_levels())
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(len(levels), generator=generator)
    for chosen in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
        yield {**feeds(levels[chosen], generator), "levels": levels[chosen]}


def _calibration(feeds: _Feeds) -> Iterator[Feeds]:
    generator = torch.Generator().manual_seed(0)
    for levels in torch.from_numpy(train_levels()[:_CALIBRATED]).split(50):
        yield {name: x.numpy() for name, x in feeds(levels, generator).items()}


def _evaluate(predict: Predict, feeds: _Feeds, bits: _Bits) -> dict[str, float]:
    inputs = feeds(_held_out(), torch.Generator().manual_seed(0))
    outputs = predict({name: x.numpy() for name, x in inputs.items()})
    found = {name: torch.from_numpy(np.asarray(x)) for name, x in outputs.items()}
    return {"bits_per_pixel": float(bits(found, {"levels": _held_out()}))}


def _levels(images: Array) -> Array:
    return np.rint(images * (LEVELS - 1)).astype(np.int64)
