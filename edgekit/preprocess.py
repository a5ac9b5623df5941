"""Preparation of images as a part of the model, so that every artifact takes them raw.

``torch.nn.Sequential(ImageInput(...), model)`` is exported as one graph: what the device would
compute in Python is computed by the engine, and calibration and verification see it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from edgekit.errors import WorkloadError

__all__ = ["ImageInput"]


class ImageInput(nn.Module):
    """Raw images to what a network was trained on: ``(x / scale - mean) / std``, as NCHW float32.

    Args:
        layout: of what comes in: ``NHWC`` as cameras and files give it, or ``NCHW``.
        size: height and width that the network wants; images of any size are resized to it,
            bilinearly between the centres of pixels, without antialiasing. None keeps the size.
        reverse_channels: the network wants RGB of BGR images, or the other way round.
        scale: what the values are divided by first, 255 for bytes.
        mean: one a channel, or one for all, in units after the division.
        std: likewise.

    Raises:
        WorkloadError: an argument makes no sense.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        *,
        layout: Literal["NHWC", "NCHW"] = "NHWC",
        size: tuple[int, int] | None = None,
        reverse_channels: bool = False,
        scale: float = 255.0,
        mean: Sequence[float] | float = 0.0,
        std: Sequence[float] | float = 1.0,
    ) -> None:
        super().__init__()
        if layout not in {"NHWC", "NCHW"}:
            raise _wrong(f"layout {layout!r} is unknown", "Give NHWC or NCHW")
        if size is not None and not (len(size) == 2 and all(side > 0 for side in size)):
            raise _wrong(f"size {size!r} is no height and width", "Give size=(224, 224)")
        self._layout = layout
        self._size = size
        self._reverse = reverse_channels
        # One subtraction and one product of the bytes instead of two divisions.
        self.register_buffer("mean", _per_channel(mean) * scale)
        self.register_buffer("std", _per_channel(std) * scale)
        if not bool(torch.isfinite(self.std).all() and (self.std > 0).all()):
            raise _wrong("scale and std are not all positive", "Leave out what shall not be done")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``images``: four dimensions in :attr:`layout`, any numeric dtype."""
        images = images.to(torch.float32)
        if self._layout == "NHWC":
            images = images.permute(0, 3, 1, 2)
        if self._reverse:
            images = images.flip(1)
        if self._size is not None:
            images = functional.interpolate(images, self._size, mode="bilinear")
        return (images - self.mean) / self.std


def _per_channel(values: Sequence[float] | float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def _wrong(what: str, fix: str) -> WorkloadError:
    return WorkloadError(what, where="ImageInput", fix=fix)
