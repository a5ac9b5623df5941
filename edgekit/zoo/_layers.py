"""Layers that several convolutional models share."""

from __future__ import annotations

from torch import nn

__all__ = ["convolution"]


def convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    """A padded 3x3 convolution, batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
