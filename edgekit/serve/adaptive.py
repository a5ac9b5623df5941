"""Hold a latency target: find the largest batch, and turn away what would come too late.

The batch limit grows by one while the 99th percentile is below the target and shrinks by a tenth
when it is above, as in Clipper (Crankshaw et al., NSDI 2017, section 4.3.1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.serve.batcher import Batcher
from edgekit.serve.errors import ServeError

__all__ = ["Adaptive"]

#: Answers between two decisions: the fewest of which a 99th percentile is not just the slowest.
_WINDOW = 128


class Adaptive:
    """Sets a batcher's largest batch.

    Args:
        batcher: whose.
        target: seconds.
    """

    def __init__(self, batcher: Batcher, target: float) -> None:
        self._batcher = batcher
        self._target = target
        self._most = batcher.policy.largest
        self._seen: list[float] = []

    def admit(self) -> None:
        """Turn a request away that would wait longer than the target.

        Raises:
            ServeError: 429.
        """
        wait = self._batcher.wait_s
        if self._batcher.waiting and wait > self._target:
            raise ServeError(
                f"it would wait {wait * 1e3:.0f} ms, the target is {self._target * 1e3:.0f} ms",
                status=429,
                retry_after=wait,
            )

    def answered(self, latency: float) -> None:
        """A request was answered after so many seconds."""
        self._seen.append(latency)
        if len(self._seen) < _WINDOW:
            return
        late = float(np.percentile(self._seen, 99)) > self._target
        self._seen.clear()
        largest = self._batcher.policy.largest
        largest = max(1, largest * 9 // 10) if late else min(self._most, largest + 1)
        self._batcher.policy = replace(self._batcher.policy, largest=largest)
