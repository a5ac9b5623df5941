"""``zoo:pixelcnn-digits``: each pixel from those before it (van den Oord et al. 2016).

Input ``image`` (n, 1, 8, 8) in [0, 1], output ``logits`` (n, 17, 8, 8) of the level of each pixel
given those above and to the left: one call tells an image's likelihood, 64 calls draw one, see
:func:`sample`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array
from edgekit.workload import Predict
from edgekit.zoo._levels import LEVELS, likelihood

__all__ = ["ENTRIES", "sample", "workload"]

_CHANNELS = 48


class _MaskedConv(nn.Conv2d):
    """Sees what comes before a pixel in reading order, and the pixel itself if ``own``."""

    mask: torch.Tensor

    def __init__(self, channels_in: int, channels: int, size: int, *, own: bool) -> None:
        super().__init__(channels_in, channels, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + own :] = 0
        mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002, nn.Conv2d's name
        return functional.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class _Residual(nn.Sequential):
    """Their figure 5."""

    def __init__(self) -> None:
        half = _CHANNELS // 2
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, half, 1),
            nn.ReLU(),
            _MaskedConv(half, half, 3, own=True),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(half, _CHANNELS, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x
        for layer in self:
            inner = layer(inner)
        return x + inner


class _PixelCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = _MaskedConv(1, _CHANNELS, 7, own=False)
        self.place = nn.Parameter(torch.zeros(1, _CHANNELS, 8, 8))
        self.body = nn.Sequential(*(_Residual() for _ in range(5)))
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, LEVELS, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(self.first(image * 2 - 1) + self.place))
        return logits


def sample(predict: Predict, count: int, seed: int) -> Array:
    """Draw images (count, 1, 8, 8) pixel by pixel."""
    generator = np.random.default_rng(seed)
    image = np.zeros((count, 1, 8, 8), dtype=np.float32)
    for row, column in np.ndindex(8, 8):
        logits = predict({"image": image})["logits"][:, :, row, column]
        level = (logits + generator.gumbel(size=logits.shape)).argmax(1)
        image[:, 0, row, column] = level / (LEVELS - 1)
    return image


def _feeds(levels: torch.Tensor, _: torch.Generator) -> dict[str, torch.Tensor]:
    return {"image": levels.float() / (LEVELS - 1)}


def _bits(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["logits"], batch["levels"][:, 0]) / math.log(2)


_ENTRY = likelihood(
    "pixelcnn-digits",
    "PixelCNN of 8x8 digits: the level of each pixel from those before it.",
    _PixelCNN,
    outputs=["logits"],
    feeds=_feeds,
    bits=_bits,
    bar=1.9,
    source="half a bit below a histogram of each pixel, 2.44 on the same split",
    epochs=60,
    rate=3e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
