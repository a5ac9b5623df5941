"""The range whose 8-bit quantization has the least mean squared error."""

from __future__ import annotations

import numpy as np
from edgekit.calibration.base import Range
from edgekit.calibration.histogram import HistogramObserver

from edgekit.spec import Array

__all__ = ["MseObserver"]

_LEVELS = 255
#: Shares of the full extent that are tried for each end.
_SHARES = np.linspace(1.0, 0.02, 99)


class MseObserver(HistogramObserver):
    """Trades the error of clipping outliers against the error of a coarser step.

    The ends are searched in turn, twice each, over the histogram of the values (Banner et al.,
    "Post-training 4-bit quantization of convolution networks", 2019, arXiv:1810.05723, search
    for the same optimum under an assumed distribution; here it is the observed one).
    """

    def range(self) -> Range:
        histogram = self.histogram
        low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
        kept = histogram.counts > 0
        values, weights = histogram.centers[kept], histogram.counts[kept]
        for _ in range(2):
            high = _best(values, weights, np.full(_SHARES.shape, low), high * _SHARES)[1]
            low = _best(values, weights, low * _SHARES, np.full(_SHARES.shape, high))[0]
        return Range(low=max(low, histogram.low), high=min(high, histogram.high))


def _best(values: Array, weights: Array, lows: Array, highs: Array) -> tuple[float, float]:
    """The pair of ends with the least squared error; the widest of equals."""
    errors = [
        _squared_error(values, weights, low, high) for low, high in zip(lows, highs, strict=True)
    ]
    index = int(np.argmin(errors))
    return float(lows[index]), float(highs[index])


def _squared_error(values: Array, weights: Array, low: float, high: float) -> float:
    step = (high - low) / _LEVELS
    if step <= 0.0:
        return float((weights * np.square(values)).sum())
    rounded = np.rint(np.clip(values, low, high) / step) * step
    return float((weights * np.square(values - rounded)).sum())
