"""The full range of the values seen: nothing is clipped, outliers cost resolution."""

from __future__ import annotations

from edgekit.calibration.base import Observer, Range

from edgekit.spec import Array

__all__ = ["MinMaxObserver"]


class MinMaxObserver(Observer):
    """Keeps the smallest and the largest value."""

    def __init__(self) -> None:
        self._low = float("inf")
        self._high = float("-inf")

    def _update(self, values: Array) -> None:
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        return Range(low=self._low, high=self._high)
