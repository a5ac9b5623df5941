"""The contract of a statistic: see every batch once, keep a bounded state.

A range estimator (:class:`Observer`) is a statistic whose result is a :class:`Range`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgekit.spec import Array

__all__ = ["NotFiniteError", "Observer", "Range", "Several", "Statistic", "extremes"]


class NotFiniteError(ValueError):
    """A tensor holds NaN or infinity."""


class Range(BaseModel):
    """The interval of real values that a quantized tensor has to represent.

    Attributes:
        low: smallest value to represent.
        high: largest value to represent; never smaller than ``low``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(low=min(self.low, other.low), high=max(self.high, other.high))


def extremes(values: Array) -> tuple[float, float]:
    """The smallest and the largest value, in two passes over the memory and no more.

    Raises:
        NotFiniteError: any value is NaN or infinite (both show in an extreme).
    """
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        raise NotFiniteError
    return low, high


class Statistic(ABC):
    """Something learnt about one tensor from a stream of batches.

    The state of a statistic does not grow with the number of values it has seen.
    """

    count: int = 0

    def update(self, values: Array) -> None:
        """See one batch of any shape; an empty batch changes nothing.

        Raises:
            NotFiniteError: the batch holds NaN or infinity.
        """
        if values.size:
            self.count += values.size
            self._update(values.astype(np.float32, copy=False))

    @abstractmethod
    def _update(self, values: Array) -> None: ...


class Several(Statistic):
    """Shows one tensor to several statistics."""

    def __init__(self, *parts: Statistic) -> None:
        self.parts = parts

    def _update(self, values: Array) -> None:
        for part in self.parts:
            part.update(values)


class Observer(Statistic):
    """Estimates the range of one tensor."""

    @abstractmethod
    def range(self) -> Range:
        """The estimate so far. Needs at least one value."""
