"""MLPerf's early stopping: what a percentile is at most, by how many queries there were.

Source: MLPerf Inference rules, appendix "Early Stopping Criterion". Of ``n`` queries, ``t`` that
are above some latency say with 99 % confidence that the percentile is not above it, when
``P(Binomial(n, 1 - percentile) <= t) <= 0.01``.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edgekit.profile.targets.base import Nanoseconds

__all__ = ["bound", "most_late"]

_DOUBT = 0.01


@cache
def most_late(count: int, share: float) -> int:
    """How many of ``count`` queries may be late for the rest to prove the ``share`` percentile.

    Args:
        count: of all queries.
        share: such as 0.99.

    Returns:
        -1 where even none being late proves nothing: 458 queries for p99.
    """
    if count < 1:
        return -1
    # The probabilities of 0, 1, 2, ... late ones: each is the last one times a ratio. As logs, as
    # the first is 0.99^count.
    late = np.arange(count, dtype=np.float64)
    ratios = np.log(count - late) - np.log(late + 1) + np.log1p(-share) - np.log(share)
    logs = count * np.log(share) + np.concatenate(([0.0], np.cumsum(ratios)))
    up_to = np.cumsum(np.exp(logs))
    return int(np.searchsorted(up_to, _DOUBT * (1 + 1e-12), side="right")) - 1


def bound(latencies: Nanoseconds, share: float) -> int | None:
    """What the ``share`` percentile is at most, with 99 % confidence; None with too few queries.

    As loadgen tells it for single-stream and multi-stream: of the ``t`` that may be late, the
    ``t - 1`` highest are left out, and the next one is it.

    Args:
        latencies: of all queries, in any order and unit.
        share: such as 0.99.
    """
    spare = most_late(latencies.size, share)
    if spare < 1:
        return None
    return int(np.partition(latencies, -spare)[-spare])
