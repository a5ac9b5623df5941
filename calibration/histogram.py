"""A histogram of a stream whose range is not known beforehand, in bounded memory."""

from __future__ import annotations

import math

import numpy as np
from edgekit.calibration.base import Observer, extremes

from edgekit.spec import Array

__all__ = ["Histogram", "HistogramObserver"]


class Histogram:
    """Counts over ``[-limit, limit)`` in equal bins; ``limit`` doubles when a value reaches it.

    ``limit`` is the least power of two above every magnitude seen, bins are located without
    rounding and doubling merges neighbouring pairs of them exactly, so neither the order of the
    batches nor their division among several histograms changes the result.

    Args:
        bins: number of bins, a multiple of 4; a value is located to within ``2 * limit / bins``.

    Attributes:
        limit: half the width of the covered interval.
        counts: int64 array of shape ``(bins,)``.
        low: smallest value seen, exact.
        high: largest value seen, exact.
    """

    def __init__(self, bins: int = 8192) -> None:
        self.counts = np.zeros(bins, dtype=np.int64)
        self.limit = 0.0
        self.low = float("inf")
        self.high = float("-inf")

    def add(self, values: Array) -> None:
        """Count a batch of finite values of any shape."""
        self.widen(float(values.min()), float(values.max()))
        if self.limit:
            # Scaling by a power of two is exact in float64, also of denormal float32 values;
            # adding the half before the floor would round tiny negative values up into zero's bin.
            half = self.counts.size // 2
            positions = np.floor(values.ravel() * np.float64(half / self.limit))
            self.counts += np.bincount(positions.astype(np.int64) + half, minlength=2 * half)
        else:  # only zeros so far: they belong to the bin that starts at zero
            self.counts[self.counts.size // 2] += values.size

    def widen(self, low: float, high: float) -> None:
        """Make room for values down to ``low`` and up to ``high``, which count as seen."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(abs(self.low), abs(self.high))
        if self.limit == 0.0 and largest > 0.0:
            zeros = self.counts.sum()
            self.limit = math.ldexp(1.0, math.frexp(largest)[1])
            self.counts[:] = 0
            self.counts[self.counts.size // 2] = zeros
        while self.limit and self.limit <= largest:
            self._double()

    def merge(self, other: Histogram) -> None:
        """Count everything that ``other`` (with as many bins) has counted, too."""
        if other.low > other.high:
            return
        self.widen(other.low, other.high)
        counts, limit = other.counts, other.limit
        while limit and limit < self.limit:
            counts, limit = _doubled(counts), limit * 2.0
        self.counts = self.counts + counts

    def quantiles(self, fractions: Array) -> Array:
        """Values below which the given fractions of the data lie, within one bin's width.

        Args:
            fractions: float array in [0, 1], ascending.

        Returns:
            Float array of the same shape, inside ``[low, high]``.
        """
        cumulative = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        return np.clip(np.interp(fractions, cumulative, self.edges), self.low, self.high)

    @property
    def edges(self) -> Array:
        """Borders of the bins, float64 of shape ``(bins + 1,)``."""
        return np.linspace(-self.limit, self.limit, self.counts.size + 1)

    @property
    def centers(self) -> Array:
        """Middles of the bins, float64 of shape ``(bins,)``."""
        return (self.edges[1:] + self.edges[:-1]) / 2.0

    def _double(self) -> None:
        self.counts = _doubled(self.counts)
        self.limit *= 2.0


class HistogramObserver(Observer):
    """What the estimators that look at the distribution share.

    The extremes are exact. The histogram counts an evenly spread part of each batch, at most
    :attr:`per_batch` values of it: quantizing needs the shape of the distribution, and counting
    every activation of a CNN would take several times as long as computing them.
    """

    per_batch = 1 << 14

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._batches = 0

    def _update(self, values: Array) -> None:
        self.histogram.widen(*extremes(values))
        # An odd step is no multiple of a power-of-two row or channel; each batch starts elsewhere.
        step = -(-values.size // self.per_batch) | 1
        self.histogram.add(values.ravel()[self._batches % step :: step])
        self._batches += 1


def _doubled(counts: Array) -> Array:
    merged: Array = np.pad(counts.reshape(-1, 2).sum(axis=1), counts.size // 4)
    return merged
