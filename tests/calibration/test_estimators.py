from __future__ import annotations

import numpy as np
import pytest
from edgekit.calibration import MinMaxObserver, PercentileObserver
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

values = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


@given(st.lists(values, min_size=1, max_size=4))
def test_min_max_is_the_range_of_all_batches(batches: list[np.ndarray]) -> None:
    observer = MinMaxObserver()
    for batch in batches:
        observer.update(batch)
    together = np.concatenate(batches)
    assert (observer.range().low, observer.range().high) == (together.min(), together.max())


@given(st.lists(values, min_size=1, max_size=4))
def test_percentile_lies_inside_min_max(batches: list[np.ndarray]) -> None:
    observer = PercentileObserver(99.0)
    for batch in batches:
        observer.update(batch)
    together = np.concatenate(batches)
    found = observer.range()
    assert together.min() <= found.low <= found.high <= together.max()


def test_percentile_cuts_outliers_that_min_max_keeps() -> None:
    data = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    data[:3] = 1000.0
    percentile, full = PercentileObserver(99.9), MinMaxObserver()
    for observer in (percentile, full):
        observer.update(data)
    assert full.range().high == 1000.0
    assert percentile.range().high < 10.0


def test_percentile_keeps_a_relu_zero_exactly() -> None:
    observer = PercentileObserver(99.9)
    observer.update(np.maximum(np.random.default_rng(0).standard_normal(10_000), 0.0))
    assert observer.range().low == pytest.approx(0.0, abs=1e-3)


def test_an_empty_batch_changes_nothing() -> None:
    observer = MinMaxObserver()
    observer.update(np.zeros((0, 3), np.float32))
    assert observer.count == 0
