"""Outlines of MNIST's digits beside the digits, and how near made digits come to them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch.nn import functional

from edgekit.spec import Array
from edgekit.workload import Predict
from edgekit.zoo._judge import mnist_judge
from edgekit.zoo._mnist import mnist

__all__ = ["evaluate", "outlined", "pairs", "psnr"]


def outlined(images: torch.Tensor) -> torch.Tensor:
    """The outermost pixels of what is brighter than a half."""
    digit = (images > 0.5).float()
    inside = 1 - functional.max_pool2d(1 - digit, 3, stride=1, padding=1)
    return digit - inside


@cache
def pairs(*, held_out: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Outlines and the digits that they are of."""
    data = mnist()
    images = torch.from_numpy(data.test_inputs if held_out else data.train_inputs)
    return outlined(images), images


def evaluate(predict: Predict) -> dict[str, float]:
    outlines, images = (pair.numpy() for pair in pairs(held_out=True))
    pieces = [predict({"outline": outlines[at : at + 100]})["image"] for at in range(0, 1000, 100)]
    made = np.concatenate(pieces)
    return {
        "psnr": psnr(made, images),
        "recognised": float(
            (mnist_judge().probabilities(made).argmax(1) == mnist_judge().labels).mean()
        ),
    }


def psnr(made: Array, wanted: Array) -> float:
    """Mean over images in [0, 1], in dB."""
    errors = np.square(made - wanted).mean((1, 2, 3))
    return float(np.mean(-10 * np.log10(errors + 1e-10)))
