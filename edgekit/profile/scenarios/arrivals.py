"""When queries are due that come at random: a Poisson process."""

from __future__ import annotations

import numpy as np

from edgekit.profile.targets.base import Nanoseconds

__all__ = ["arrivals"]


def arrivals(rate: float, count: int, seed: int) -> Nanoseconds:
    """Due times of ``count`` queries, the first at 0, at exactly ``rate`` a second.

    The gaps are exponential and then scaled to their exact mean: a Poisson process, given that so
    many queries come in that time. So what is offered is the rate that is told, not one that chance
    put 3 % beside it, and with one seed two rates are offered in the same pattern.

    Args:
        rate: queries a second, more than 0.
        count: at least 1.
        seed: of the gaps.
    """
    # As many gaps as queries: the last one is the time after the last query, which belongs to it.
    gaps = np.random.default_rng(seed).exponential(size=count)
    times = np.concatenate(([0.0], np.cumsum(gaps)))
    scaled = times[:-1] / times[-1] * (count / rate)
    due: Nanoseconds = np.round(scaled * 1e9).astype(np.int64)
    return due
