"""Few values for many: never worse than uniform bins, and the best where that is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.compress.palettize.kmeans import palette, snap
from edgekit.spec import Array

_NUMBERS = st.floats(-1e3, 1e3, width=32)
_VALUES = arrays(np.float32, st.integers(1, 60), elements=_NUMBERS)


def _error(values: Array, centres: Array) -> float:
    return float(((snap(values, centres) - values.astype(np.float64)) ** 2).sum())


def _uniform(values: Array, count: int) -> Array:
    low, high = float(values.min()), float(values.max())
    return np.unique(low + (high - low) / count * (np.arange(count) + 0.5))


@given(values=_VALUES, count=st.integers(1, 16))
def test_it_is_never_worse_than_uniform_bins(values: Array, count: int) -> None:
    centres = palette(values, count)
    assert len(centres) <= count
    assert (np.diff(centres) > 0).all()
    uniform = _error(values, _uniform(values, count))
    assert _error(values, centres) <= uniform * (1 + 1e-9) + 1e-9


@given(values=_VALUES)
def test_few_distinct_values_stay_as_they_are(values: Array) -> None:
    assert _error(values, palette(values, 60)) == 0.0


def test_normal_weights_lose_much_less_than_in_uniform_bins() -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    assert _error(values, palette(values, 16)) < 0.7 * _error(values, _uniform(values, 16))


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_near_to_the_best_of_all_cuts(seed: int) -> None:
    values = np.sort(np.random.default_rng(seed).standard_normal(14))
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(values, cuts))
        for cuts in map(list, combinations(range(1, 14), 2))
    )
    assert best - 1e-9 <= _error(values, palette(values, 3)) < 1.5 * best
