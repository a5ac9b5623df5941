"""k-means of numbers on a line: few values that stand for many, with the least squared error."""

from __future__ import annotations

import numpy as np

from edgekit.spec import Array

__all__ = ["palette", "snap"]

_ROUNDS = 100


def palette(values: Array, count: int, weights: Array | None = None) -> Array:
    """At most ``count`` values with a low weighted squared error.

    Lloyd's rounds on the sorted values, where clusters are intervals and their means come from
    running sums, from two starts: evenly spaced and evenly filled. The better end is taken, so it
    is never worse than uniform bins.

    Args:
        values: finite, of any shape.
        count: at least 1.
        weights: how much each error counts, of the same shape, none negative; None for alike.

    Returns:
        float64, ascending, shape ``(at most count,)``; the distinct values themselves where those
        are no more.
    """
    distinct, inverse = np.unique(values.astype(np.float64), return_inverse=True)
    if len(distinct) <= count:
        return distinct
    filled = np.ones(values.size) if weights is None else weights.astype(np.float64).ravel()
    mass = np.bincount(inverse.ravel(), weights=filled, minlength=len(distinct))
    mass = mass + 1e-12 * max(float(mass.max()), 1e-300)  # so that each value has a place
    shares = np.cumsum(mass) / mass.sum()
    step = (distinct[-1] - distinct[0]) / count
    starts = [
        distinct[0] + step * (np.arange(count) + 0.5),
        distinct[np.searchsorted(shares, (np.arange(count) + 0.5) / count).clip(max=len(mass) - 1)],
    ]
    ends = [_lloyd(distinct, mass, np.unique(start)) for start in starts]
    errors = [(mass * (snap(distinct, end) - distinct) ** 2).sum() for end in ends]
    return ends[int(np.argmin(errors))]


def _lloyd(values: Array, mass: Array, centres: Array) -> Array:
    """Until nothing moves. ``values`` ascend; a cluster that has lost all its values goes."""
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    moments = np.concatenate([[0.0], np.cumsum(mass * values)])
    edges = None
    for _ in range(_ROUNDS):
        inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2, side="right")
        moved = np.unique(np.concatenate([[0], inner, [len(values)]]))
        if edges is not None and np.array_equal(moved, edges):
            break
        edges = moved
        centres = np.diff(moments[edges]) / np.diff(masses[edges])
    return centres


def snap(values: Array, centres: Array) -> Array:
    """Each value's nearest centre; ``centres`` ascend."""
    nearest: Array = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)]
    return nearest
