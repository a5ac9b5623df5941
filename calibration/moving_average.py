"""The full range of a batch, averaged over the batches: one odd batch moves it little."""

from __future__ import annotations

from edgekit.calibration.base import Observer, Range, extremes

from edgekit.spec import Array

__all__ = ["MovingAverageObserver"]


class MovingAverageObserver(Observer):
    """Exponential moving average of each batch's smallest and largest value.

    Source: Jacob et al., 2018 (arXiv:1712.05877), section 3.1.

    Args:
        momentum: weight of the past; 0.99 remembers about a hundred batches. The first batches
            are weighted evenly, so that a short calibration set counts in full.
    """

    def __init__(self, momentum: float = 0.99) -> None:
        self._momentum = momentum
        self._batches = 0
        self._low = 0.0
        self._high = 0.0

    def _update(self, values: Array) -> None:
        low, high = extremes(values)
        self._batches += 1
        past = min(self._momentum, 1.0 - 1.0 / self._batches)
        self._low = past * self._low + (1.0 - past) * low
        self._high = past * self._high + (1.0 - past) * high

    def range(self) -> Range:
        return Range(low=self._low, high=self._high)
