"""How fast training goes: the schedule of its rate, and what is told of it."""

from __future__ import annotations

import math
import time

from edgekit.progress import Progress

__all__ = ["Teller", "schedule"]

_WARM_UP = 0.1
_TELL_SECONDS = 0.25


def schedule(done: float) -> float:
    """Share of the highest rate: a linear rise over the first tenth, then half a cosine."""
    if done < _WARM_UP:
        return 0.04 + 0.96 * done / _WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - _WARM_UP) / (1.0 - _WARM_UP)))


class Teller:
    """Says where training is, a few times a second."""

    def __init__(self, progress: Progress, label: str, epochs: int, per_epoch: int) -> None:
        self._progress = progress
        self._label, self._epochs, self._per_epoch = label, epochs, per_epoch
        self._began = self._told = time.monotonic()
        self._first: int | None = None

    def tell(self, epoch: int, position: int, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if self._first is None:  # of this process, which may have taken over a killed one's
            self._first = step - 1
        if step > self._first + 1 and step < steps and now - self._told < _TELL_SECONDS:
            return
        self._told = now
        left = (now - self._began) / (step - self._first) * (steps - step)
        self._progress.update(
            f"{self._label}, epoch {epoch + 1} of {self._epochs}, step {position} of "
            f"{self._per_epoch}, loss {loss:.3g}, {left:.0f} s left"
        )
