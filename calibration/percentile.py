"""A range that leaves out a small share of outliers at either end."""

from __future__ import annotations

import numpy as np
from edgekit.calibration.base import Range
from edgekit.calibration.histogram import HistogramObserver

__all__ = ["PercentileObserver"]


class PercentileObserver(HistogramObserver):
    """Clips the values outside the central ``percentile`` percent.

    Args:
        percentile: share of the values, in percent, that lies inside the range. Half of the
            rest is cut at each end, except at an end where the distribution stops at zero (the
            output of a ReLU), which is exact anyway.
    """

    def __init__(self, percentile: float = 99.99) -> None:
        super().__init__()
        self._outside = (100.0 - percentile) / 200.0

    def range(self) -> Range:
        low, high = self.histogram.quantiles(np.array([self._outside, 1.0 - self._outside]))
        return Range(low=float(low), high=float(high))
