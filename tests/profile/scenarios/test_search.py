"""The bisection, and the arrivals that it offers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profile.scenarios.arrivals import arrivals
from edgekit.profile.scenarios.search import highest


@given(st.floats(0.1, 1e6), st.floats(1e-3, 1e3))
def test_the_highest_rate_is_found_from_any_start(limit: float, start: float) -> None:
    found = highest(lambda rate: rate <= limit, limit * start, resolution=0.02, least=0.0)
    assert limit / 1.02 <= found <= limit


def test_no_rate_below_the_least_is_tried() -> None:
    tried: list[float] = []
    assert highest(lambda rate: bool(tried.append(rate)), 100, resolution=0.02, least=1) == 0
    assert min(tried) >= 1


def test_a_failure_by_chance_does_not_hide_the_rates_above() -> None:
    calls = 0

    def holds(rate: float) -> bool:
        nonlocal calls
        calls += 1
        return calls != 1 and rate <= 1000  # the first trial meets a stall of the machine

    assert highest(holds, 500, resolution=0.02, least=0) == pytest.approx(1000, rel=0.02)


def test_a_stall_through_every_rate_does_not_end_the_search() -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        stalled = len(set(tried)) == len(tried)  # until the search comes back to its first rate
        return not stalled and rate <= 1000

    assert highest(holds, 500, resolution=0.02, least=5) == pytest.approx(1000, rel=0.02)
    assert tried.count(500) == 2


@given(st.floats(0.03, 0.7))
def test_a_band_that_slower_rates_do_not_hold_either_is_found(upper: float) -> None:
    def holds(rate: float) -> bool:  # a machine that falls asleep where queries are rare
        return 700 * upper <= rate <= 1000 * upper

    found = highest(holds, 1000, resolution=0.02, least=20)
    assert found == pytest.approx(1000 * upper, rel=0.02)


def test_a_search_ends_however_moody_the_machine_is() -> None:
    generator = np.random.default_rng(0)
    calls = 0

    def holds(_: float) -> bool:
        nonlocal calls
        calls += 1
        return bool(generator.random() < 0.5)

    highest(holds, 100, resolution=0.02, least=1e-9)
    assert calls <= 50


@given(st.floats(0.5, 1e4), st.integers(1, 5000), st.integers(0, 2**32))
def test_arrivals_come_at_exactly_the_rate_in_order_from_0(
    rate: float, count: int, seed: int
) -> None:
    due = arrivals(rate, count, seed)
    assert due.size == count
    assert due[0] == 0
    assert (np.diff(due) >= 0).all()
    assert due[-1] < count / rate * 1e9 + 1


def test_a_seed_is_a_pattern_and_the_rate_only_scales_it() -> None:
    slow, fast = arrivals(10, 1000, 3), arrivals(20, 1000, 3)
    assert np.abs(slow - 2 * fast).max() <= 2
    assert (arrivals(10, 1000, 4) != slow).any()


def test_arrivals_are_a_poisson_process() -> None:
    due = arrivals(1000, 200_000, 0) / 1e9
    in_10_ms = np.bincount((due // 0.01).astype(int))[:-1]
    # Mean and variance of counts are equal, and gaps are as long whatever was before them.
    assert in_10_ms.mean() == pytest.approx(10, rel=0.01)
    assert in_10_ms.var() == pytest.approx(10, rel=0.05)
    gaps = np.diff(due)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.01
