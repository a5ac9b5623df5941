"""What accuracy recovery wants to know about a tensor beside its range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from edgekit.calibration.base import Statistic, extremes

from edgekit.spec import Array

__all__ = ["ChannelMean", "ChannelRange", "Gram", "PatchGram", "RowSample"]


def _other_axes(values: Array, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(values.ndim) if i != axis % values.ndim)


class ChannelRange(Statistic):
    """The smallest and largest value of each channel.

    Args:
        axis: the channel axis; may be negative.

    Attributes:
        low: float32 of shape ``(channels,)``.
        high: likewise.
    """

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self.low: Array = np.zeros(0, np.float32)
        self.high: Array = np.zeros(0, np.float32)

    def _update(self, values: Array) -> None:
        others = _other_axes(values, self._axis)
        low, high = values.min(axis=others), values.max(axis=others)
        extremes(np.concatenate([low, high]))
        self.low = np.minimum(self.low, low) if self.low.size else low
        self.high = np.maximum(self.high, high) if self.high.size else high

    @property
    def largest(self) -> Array:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


class ChannelMean(Statistic):
    """The mean of each channel.

    Args:
        axis: the channel axis; may be negative.
    """

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._sum: Array | None = None
        self._rows = 0

    def _update(self, values: Array) -> None:
        # Summing in float32 within a batch (pairwise, as numpy does) is exact enough and avoids
        # a float64 copy of every activation.
        total = values.sum(axis=_other_axes(values, self._axis)).astype(np.float64)
        extremes(total)
        self._sum = total if self._sum is None else self._sum + total
        self._rows += values.size // values.shape[self._axis]

    @property
    def mean(self) -> Array:
        """float64 of shape ``(channels,)``. Needs at least one value."""
        assert self._sum is not None
        return self._sum / self._rows


class Gram(Statistic):
    """``X^T X`` of the rows of the last axis: the second-order statistic of a linear layer.

    Attributes:
        matrix: float64 of shape ``(channels, channels)``.
        magnitude: summed ``|x|`` of each channel, float64 of shape ``(channels,)``.
        rows: how many rows were seen.
    """

    def __init__(self, channels: int) -> None:
        self.matrix: Array = np.zeros((channels, channels))
        self.magnitude: Array = np.zeros(channels)
        self.rows = 0

    def _update(self, values: Array) -> None:
        rows = values.reshape(-1, values.shape[-1])
        self.magnitude += np.abs(rows).sum(axis=0, dtype=np.float64)
        extremes(self.magnitude)
        self.matrix += (rows.T @ rows).astype(np.float64)
        self.rows += len(rows)


class RowSample(Statistic):
    """An evenly spread part of the rows (of the last axis) of a stream.

    Args:
        limit: keep between this many rows and half of them, once there are enough.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._step = 1
        self._seen = 0
        self._kept: list[Array] = []

    def _update(self, values: Array) -> None:
        rows = values.reshape(-1, values.shape[-1])
        # Of the whole stream, the rows at multiples of the step are kept.
        chosen = rows[-self._seen % self._step :: self._step]
        if len(chosen):
            extremes(chosen)
        self._kept.append(chosen.copy())
        self._seen += len(rows)
        while sum(map(len, self._kept)) > self._limit:
            self._kept = [self.rows[::2]]
            self._step *= 2

    @property
    def rows(self) -> Array:
        """float32 of shape ``(kept, channels)``."""
        return np.concatenate(self._kept)


class PatchGram(Statistic):
    """:class:`Gram` of a convolution: of the patches that its kernel sees.

    Args:
        kernel: spatial shape of the kernel.
        strides: one an axis.
        pads: begin of every axis, then end of every axis, as ONNX has them; or its ``auto_pad``
            that computes them from the size of the image.
        dilations: one an axis.
        groups: channels are divided into this many groups.
        per_batch: look at no more than this many positions of a batch.

    Attributes:
        matrix: float64 of shape ``(groups, fan_in, fan_in)``; None before the first batch.
    """

    def __init__(
        self,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int] | Literal["SAME_UPPER", "SAME_LOWER"],
        dilations: Sequence[int],
        groups: int,
        per_batch: int = 4096,
    ) -> None:
        self._kernel, self._strides, self._dilations = tuple(kernel), strides, dilations
        self._reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        self._pads = pads
        self._groups = groups
        self._per_batch = per_batch
        self.matrix: Array | None = None

    def _update(self, values: Array) -> None:
        padded = np.pad(values, [(0, 0), (0, 0), *self._borders(values.shape[2:])])
        spatial = tuple(range(2, values.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self._reach, axis=spatial)
        every = tuple(slice(None, None, s) for s in self._strides)
        taps = tuple(slice(None, None, d) for d in self._dilations)
        windows = np.moveaxis(
            windows[(slice(None), slice(None), *every, *(taps))], 1, -len(taps) - 1
        )
        places = windows.shape[: 1 + len(spatial)]
        step = -(-int(np.prod(places)) // self._per_batch) | 1
        chosen = np.unravel_index(np.arange(0, int(np.prod(places)), step), places)
        patches = windows[chosen].reshape(len(chosen[0]), self._groups, -1).swapaxes(0, 1)
        extremes(patches)
        added = np.matmul(patches.swapaxes(1, 2), patches).astype(np.float64)
        self.matrix = added if self.matrix is None else self.matrix + added

    def _borders(self, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """How many zeros stand before and after the image on each axis."""
        if not isinstance(self._pads, str):
            rank = len(self._kernel)
            yield from zip(self._pads[:rank], self._pads[rank:], strict=True)
            return
        for size, stride, reach in zip(sizes, self._strides, self._reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            before = total // 2 if self._pads == "SAME_UPPER" else -(-total // 2)
            yield before, total - before
