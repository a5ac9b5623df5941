"""k-means of numbers on a line: few values that stand for many, with the least squared error."""

from __future__ import annotations

import numpy as np

from edgekit.spec import Array

__all__ = ["palette", "snap"]

_ROUNDS = 100


def palette(values: Array, count: int) -> Array:
    """At most ``count`` values with a low squared error.

    Lloyd's rounds on the sorted values, where clusters are intervals and their means come from
    running sums, from two starts: evenly spaced and evenly filled. The better end is taken, so it
    is never worse than uniform bins.

    Args:
        values: finite, of any shape.
        count: at least 1.

    Returns:
        float64, ascending, shape ``(at most count,)``; the distinct values themselves where those
        are no more.
    """
    distinct, mass = np.unique(values, return_counts=True)
    distinct = distinct.astype(np.float64)
    if len(distinct) <= count:
        return distinct
    shares = np.cumsum(mass) / mass.sum()
    middles = (np.arange(count) + 0.5) / count
    starts = [
        distinct[0] + (distinct[-1] - distinct[0]) * middles,
        distinct[np.searchsorted(shares, middles)],
    ]
    ends = [_lloyd(distinct, mass, np.unique(start)) for start in starts]
    errors = [(mass * (snap(distinct, end) - distinct) ** 2).sum() for end in ends]
    return ends[int(np.argmin(errors))]


def _lloyd(values: Array, mass: Array, centres: Array) -> Array:
    """Until nothing moves. ``values`` ascend; a cluster that has lost all its values goes."""
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    moments = np.concatenate([[0.0], np.cumsum(mass * values)])
    edges: Array | None = None
    for _ in range(_ROUNDS):
        inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2, side="right")
        moved: Array = np.unique(np.concatenate([[0], inner, [len(values)]]))
        if edges is not None and np.array_equal(moved, edges):
            break
        edges = moved
        centres = np.diff(moments[edges]) / np.diff(masses[edges])
    return centres


def snap(values: Array, centres: Array) -> Array:
    """Each value's nearest centre; ``centres`` ascend."""
    nearest: Array = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)]
    return nearest
