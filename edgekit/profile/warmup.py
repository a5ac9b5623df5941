"""Warm-up that ends when latencies are stable: detected, never a fixed number of inferences.

A processor needs time to raise its clock, an engine allocates and starts threads in its first
calls, caches fill. How long that takes differs by a factor of a thousand between models, so a
count that suits one is wrong for another.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final

from edgekit.profile.samples import WarmUp

__all__ = ["Clock", "warm_up"]

#: Nanoseconds from any origin: :func:`time.perf_counter_ns`, or a synthetic engine's.
Clock = Callable[[], int]

#: Windows that must agree, and by how much: as perf_analyzer's rule.
_WINDOWS: Final = 3
_SPREAD: Final = 1.10
#: What a window holds at least. Three windows of this length also let a clock governor react,
#: which needs tens of milliseconds.
_CALLS: Final = 3
_WINDOW_NS: Final = 20_000_000
_MOST_CALLS: Final = 100_000


def warm_up(run: Callable[[], object], clock: Clock, max_seconds: float) -> WarmUp:
    """Call until the medians of three windows in a row lie within 10 % of each other.

    Args:
        run: one inference.
        clock: that the windows are measured by.
        max_seconds: no new window after this time. One window is always run.

    Returns:
        How long it took; ``steady`` is False where the limit came first.
    """
    began = clock()
    medians: list[float] = []
    calls = 0
    while True:
        latencies: list[int] = []
        start = last = clock()
        while len(latencies) < _CALLS or last - start < _WINDOW_NS:
            run()
            now = clock()
            latencies.append(now - last)
            last = now
        calls += len(latencies)
        medians.append(median(latencies))
        recent = medians[-_WINDOWS:]
        steady = len(recent) == _WINDOWS and max(recent) <= _SPREAD * min(recent)
        seconds = (last - began) / 1e9
        if steady or seconds >= max_seconds or calls >= _MOST_CALLS:
            return WarmUp(calls=calls, seconds=seconds, steady=steady)
