"""The contract of a range estimator: see every batch once, keep a bounded state, give a range."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgekit.spec import Array

__all__ = ["Observer", "Range"]


class Range(BaseModel):
    """The interval of real values that a quantized tensor has to represent.

    Attributes:
        low: smallest value to represent.
        high: largest value to represent; never smaller than ``low``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float


class Observer(ABC):
    """Estimates the range of one tensor from a stream of batches.

    The state of an observer does not grow with the number of values it has seen.
    """

    count: int = 0

    def update(self, values: Array) -> None:
        """See one batch of any shape; an empty batch changes nothing."""
        if values.size:
            self.count += values.size
            self._update(values.astype(np.float32, copy=False))

    @abstractmethod
    def _update(self, values: Array) -> None: ...

    @abstractmethod
    def range(self) -> Range:
        """The estimate so far. Needs at least one value."""
