"""The full range of the values seen: nothing is clipped, outliers cost resolution."""

from __future__ import annotations

from edgekit.calibration.base import Observer, Range, extremes

from edgekit.spec import Array

__all__ = ["MinMaxObserver"]


class MinMaxObserver(Observer):
    """Keeps the smallest and the largest value."""

    def __init__(self) -> None:
        self._low = float("inf")
        self._high = float("-inf")

    def _update(self, values: Array) -> None:
        low, high = extremes(values)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> Range:
        return Range(low=self._low, high=self._high)
