"""What judges images that a model made: a classifier of the zoo that was trained without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array
from edgekit.zoo import mlp_digits, resnet8_mnist
from edgekit.zoo._classification import digits
from edgekit.zoo._mnist import mnist

__all__ = ["Judge", "digits_judge", "mnist_judge", "shrunk", "spread"]

#: A class of higher probability is recognised with confidence: 94 % of the real digits are. With
#: 0.9 the judge doubts a quarter of these.
_CONFIDENT = 0.7


@dataclass(frozen=True)
class Judge:
    """Tells what images show.

    Attributes:
        classifier: of images as :attr:`prepare` makes them.
        size: images are (n, 1, size, size), in [0, 1].
        real: held-out images of that size.
        labels: what they show.
    """

    classifier: nn.Module
    size: int
    real: Array
    labels: Array

    def probabilities(self, images: Array) -> Array:
        """Of the ten classes, (n, 10)."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).float().clamp(0, 1)
        with torch.no_grad():
            logits = self.classifier(_as_classified(pixels))
        return logits.softmax(1).numpy()

    def asked(self, images: Array, labels: Array) -> dict[str, float]:
        """How many images show the class that was asked for, and how much they vary.

        ``variety`` is the mean standard deviation of a pixel among images of one class, as a share
        of that of real images: 0 where a model makes the same image again and again.
        """
        right = self.probabilities(images).argmax(1) == labels
        return {
            "recognised": float(right.mean()),
            "variety": spread(images, labels) / spread(self.real, self.labels),
        }

    def unasked(self, images: Array) -> dict[str, float]:
        """How many images are some digit without a doubt, and how many classes there are."""
        probabilities = self.probabilities(images)
        sure = probabilities.max(1) > _CONFIDENT
        shares = np.bincount(probabilities.argmax(1)[sure], minlength=10) / max(sure.sum(), 1)
        entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
        return {
            "recognised": float(sure.mean()),
            "classes": float(np.exp(entropy)),  # as many equally frequent ones have its entropy
        }


@cache
def digits_judge() -> Judge:
    """By ``zoo:mlp-digits``, of 8x8 digits."""
    data = digits((1, 8, 8))
    return Judge(_module(mlp_digits.workload().model), 8, data.test_inputs, data.test_labels)


@cache
def mnist_judge() -> Judge:
    """By ``zoo:resnet8-mnist``, of MNIST shrunk to 14x14."""
    data = mnist()
    images = shrunk(torch.from_numpy(data.test_inputs)).numpy()
    return Judge(_module(resnet8_mnist.workload().model), 14, images, data.test_labels)


def shrunk(images: torch.Tensor) -> torch.Tensor:
    """MNIST's images (n, 1, 28, 28) at half their size."""
    return functional.avg_pool2d(images, 2)


def _as_classified(pixels: torch.Tensor) -> torch.Tensor:
    """What the classifier of that size takes: rows of 64 pixels, or images of 28x28."""
    if pixels.shape[-1] == 8:
        return pixels.flatten(1)
    return functional.interpolate(pixels, size=(28, 28), mode="bilinear", align_corners=False)


def spread(images: Array, labels: Array) -> float:
    """The mean standard deviation of a pixel among images of one label."""
    return float(np.mean([images[labels == one].std(0).mean() for one in np.unique(labels)]))


def _module(model: object) -> nn.Module:
    assert isinstance(model, nn.Module)
    return model.eval()
