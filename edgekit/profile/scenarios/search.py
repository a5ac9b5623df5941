"""The highest rate that a trial lets through: bracket it, then bisect."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

__all__ = ["highest"]

#: Trials of one search; enough for a first guess that is wrong by a factor of thousands.
_MOST = 40
#: Ways down before no rate is believed to hold, by the share of the first rate where each begins.
#: A machine that falls asleep between queries answers slow rates late, too, so that what holds is a
#: narrow band, which the steps of one way miss. The first way is gone again, as what disturbs the
#: machine for seconds outlasts one; trials that fail are short.
_DESCENTS = (1.0, 2 ** (-1 / 3), 2 ** (-2 / 3), 1.0)


def highest(
    holds: Callable[[float], bool], start: float, *, resolution: float, least: float
) -> float:
    """The highest rate that holds, to within ``resolution``.

    A trial on a busy machine may fail by chance, and a bracket that was built on it hides every
    rate above. So the rate above the one that was found is tried once more before it is believed,
    and so is that none holds.

    Args:
        holds: tries a rate.
        start: the first one to try.
        resolution: such as 0.02: the next higher rate, by that share, was tried and failed.
        least: below it none is tried.

    Returns:
        0 where none holds.
    """
    trials = 0

    def tried(rate: float) -> bool:
        nonlocal trials
        trials += 1
        return holds(rate)

    low, high = 0.0, math.inf
    descent = _descent(start, least)
    rate = next(descent)
    while trials < _MOST:
        if tried(rate):
            low = rate
        else:
            high = rate
        if high < low:  # the machine is quieter than it was
            high = math.inf
        if low == 0.0:
            rate = next(descent, 0.0)
            if rate == 0.0:
                break
        elif high == math.inf:
            rate = low * 2
        elif high > low * (1 + resolution):
            rate = math.sqrt(low * high)
        elif not tried(high):
            break
        else:
            low, high = high, math.inf
            rate = low * (1 + 4 * resolution)
    return low


def _descent(start: float, least: float) -> Iterator[float]:
    for share in _DESCENTS:
        rate = start * share
        while rate >= least:
            yield rate
            rate /= 2
