from __future__ import annotations

import random

import numpy as np
from edgekit.calibration.histogram import Histogram
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

values = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


@given(st.lists(values, min_size=1, max_size=5))
def test_every_value_is_counted_once(batches: list[np.ndarray]) -> None:
    histogram = Histogram(bins=64)
    for batch in batches:
        histogram.add(batch)
    assert histogram.counts.sum() == sum(batch.size for batch in batches)


@given(st.lists(values, min_size=1, max_size=5))
def test_extremes_are_exact(batches: list[np.ndarray]) -> None:
    histogram = Histogram(bins=64)
    for batch in batches:
        histogram.add(batch)
    together = np.concatenate(batches)
    assert histogram.low == together.min()
    assert histogram.high == together.max()
    assert histogram.limit >= max(abs(histogram.low), abs(histogram.high))


@given(st.lists(values, min_size=1, max_size=4), st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_bin_of_the_sorted_values(
    batches: list[np.ndarray], fraction: float
) -> None:
    histogram = Histogram(bins=1024)
    for batch in batches:
        histogram.add(batch)
    together = np.sort(np.concatenate(batches).astype(np.float64))
    estimate = histogram.quantiles(np.array([fraction]))[0]
    width = 2 * histogram.limit / 1024 + 1e-9
    # the smallest and the largest value that the quantile may fall between
    position = fraction * together.size
    low = together[max(int(np.floor(position)) - 1, 0)]
    high = together[min(int(np.ceil(position)), together.size - 1)]
    assert low - width <= estimate <= high + width


def _counted(batches: list[np.ndarray]) -> Histogram:
    histogram = Histogram(bins=64)
    for batch in batches:
        histogram.add(batch)
    return histogram


def _state(histogram: Histogram) -> tuple[float, float, float, list[int]]:
    return histogram.low, histogram.high, histogram.limit, histogram.counts.tolist()


#: Magnitudes far apart, exact powers of two and both zeros: what binning might get wrong.
wild = st.lists(
    arrays(
        np.float32,
        st.integers(1, 8),
        elements=st.one_of(
            st.floats(allow_nan=False, allow_infinity=False, width=32),
            st.sampled_from([0.0, -0.0, 1.0, 2.0, 4.0, -4.0, 0.5, 1e-20, -1e-20, 2.0**100]),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(wild)
def test_how_the_data_is_divided_into_batches_changes_nothing(batches: list[np.ndarray]) -> None:
    assert _state(_counted(batches)) == _state(_counted([np.concatenate(batches)]))


@given(wild, st.randoms(use_true_random=False))
def test_the_order_of_the_batches_changes_nothing(
    batches: list[np.ndarray], random: random.Random
) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)
    assert _state(_counted(shuffled)) == _state(_counted(batches))


@given(wild, wild)
def test_merging_is_one_histogram_over_all_data(
    ours: list[np.ndarray], theirs: list[np.ndarray]
) -> None:
    merged, other = _counted(ours), _counted(theirs)
    before = _state(other)
    merged.merge(other)
    assert _state(merged) == _state(_counted([*ours, *theirs]))
    assert _state(other) == before


def test_merging_an_empty_histogram_changes_nothing() -> None:
    histogram = _counted([np.array([1.0, -3.0], np.float32)])
    before = _state(histogram)
    histogram.merge(Histogram(bins=64))
    assert _state(histogram) == before


def test_state_does_not_grow_with_the_stream() -> None:
    histogram = Histogram(bins=64)
    size = histogram.counts.nbytes
    for exponent in range(40):
        histogram.add(np.full(1000, 2.0**exponent, dtype=np.float32))
    assert histogram.counts.nbytes == size


def test_zeros_before_the_first_value_keep_their_place() -> None:
    histogram = Histogram(bins=64)
    histogram.add(np.zeros(90, dtype=np.float32))
    histogram.add(np.full(10, 4.0, dtype=np.float32))
    assert abs(histogram.quantiles(np.array([0.5]))[0]) <= 2 * histogram.limit / 64
