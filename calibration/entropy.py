"""The range that loses the least information, as TensorRT calibrates."""

from __future__ import annotations

import numpy as np
from edgekit.calibration.base import Range
from edgekit.calibration.histogram import HistogramObserver

from edgekit.spec import Array

__all__ = ["EntropyObserver", "entropy_threshold"]

#: Magnitudes are quantized to this many levels, the positive half of int8.
_LEVELS = 128
#: Candidates lie this many bins apart.
_STEP = 16


class EntropyObserver(HistogramObserver):
    """Clips magnitudes where the Kullback-Leibler divergence of quantizing them is least.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """

    def range(self) -> Range:
        histogram = self.histogram
        half = histogram.counts.size // 2
        magnitudes = histogram.counts[half:] + histogram.counts[:half][::-1]
        threshold = entropy_threshold(magnitudes) / half * histogram.limit
        return Range(low=max(histogram.low, -threshold), high=min(histogram.high, threshold))


def entropy_threshold(counts: Array) -> int:
    """How many of the first bins to keep.

    Args:
        counts: int array of shape ``(bins,)`` of magnitudes from zero on.

    Returns:
        The number of bins inside the best threshold; all that hold anything when there are few.
    """
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else counts.size
    # The zeros of a ReLU are exact at any threshold and would drown everything else.
    counts = np.concatenate([[0], counts[1:used]]).astype(np.float64)
    candidates = [*range(_LEVELS, used, _STEP), used]
    return min(candidates, key=lambda bins: _divergence(counts, bins)) if used > _LEVELS else used


def _divergence(counts: Array, bins: int) -> float:
    """KL(P || Q): P clips at ``bins``, Q has the bins inside merged into :data:`_LEVELS`."""
    inside = counts[:bins]
    clipped = inside.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * _LEVELS // bins
    occupied = inside > 0
    sums = np.bincount(level, weights=inside, minlength=_LEVELS)
    sizes = np.bincount(level, weights=occupied, minlength=_LEVELS)
    spread = np.where(occupied, (sums / np.maximum(sizes, 1))[level], 0.0)
    present = clipped > 0
    if not present.any() or not (spread[present] > 0).any():
        return float("inf")
    p = clipped[present] / clipped.sum()
    q = np.maximum(spread[present] / spread.sum(), 1e-12)
    return float((p * np.log(p / q)).sum())
