"""A histogram of a stream whose range is not known beforehand, in bounded memory."""

from __future__ import annotations

import numpy as np

from edgekit.spec import Array

__all__ = ["Histogram"]


class Histogram:
    """Counts over ``[-limit, limit]`` in equal bins; ``limit`` doubles when a value exceeds it.

    Doubling merges neighbouring pairs of bins exactly, so the result does not depend on the
    order of the batches, apart from the first one, which sets the unit of ``limit``.

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
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        largest = max(abs(self.low), abs(self.high))
        if self.limit == 0.0:
            self._start(largest)
        while self.limit < largest:
            self._double()
        if self.limit:
            # In float64, where bins of a denormal float32 range still differ.
            positions = (values.ravel() / np.float64(self.limit) + 1.0) * (self.counts.size / 2)
            indices = np.minimum(positions.astype(np.int64), self.counts.size - 1)
            self.counts += np.bincount(indices, minlength=self.counts.size)
        else:  # only zeros so far: they belong to the bin that starts at zero
            self.counts[self.counts.size // 2] += values.size

    def quantiles(self, fractions: Array) -> Array:
        """Values below which the given fractions of the data lie, within one bin's width.

        Args:
            fractions: float array in [0, 1], ascending.

        Returns:
            Float array of the same shape, inside ``[low, high]``.
        """
        cumulative = np.concatenate([[0], np.cumsum(self.counts)]) / self.counts.sum()
        edges = np.linspace(-self.limit, self.limit, self.counts.size + 1)
        return np.clip(np.interp(fractions, cumulative, edges), self.low, self.high)

    def _start(self, largest: float) -> None:
        zeros = self.counts.sum()
        self.limit = largest
        self.counts[:] = 0
        self.counts[self.counts.size // 2] = zeros

    def _double(self) -> None:
        merged = self.counts.reshape(-1, 2).sum(axis=1)
        quarter = self.counts.size // 4
        self.counts = np.pad(merged, quarter)
        self.limit *= 2.0
