"""Percentiles: their bounds by the rules, and when they are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profile.percentiles import early_stopping, least_samples, percentile_interval


def _at_most(count: int, chance: float, most: int) -> float:
    return sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(most + 1)
    )


@given(st.integers(11, 400), st.sampled_from([0.5, 0.9, 0.95]))
def test_early_stopping_drops_as_many_as_the_rule_lets_it(count: int, share: float) -> None:
    found = early_stopping(np.arange(count), share)
    if count < least_samples(share):
        assert found is None
        return
    most = next(t for t in range(count) if _at_most(count, 1 - share, t) > 0.01 + 1e-12) - 1
    assert most >= 1
    assert found == count - most  # of 0, 1, ... count - 1 the t - 1 highest are dropped


@pytest.mark.parametrize(("count", "bound"), [(661, None), (662, 661), (24_576, 24_367)])
def test_early_stopping_of_p99(count: int, bound: int | None) -> None:
    assert early_stopping(np.arange(count), 0.99) == bound


def test_early_stopping_bounds_p99_in_99_of_100_runs() -> None:
    truth = -math.log(0.01)
    generator = np.random.default_rng(0)
    bounds = [early_stopping(generator.exponential(size=2000), 0.99) for _ in range(1000)]
    assert sum(bound is not None and bound >= truth for bound in bounds) >= 983


@given(
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300),
    st.sampled_from([50.0, 90.0, 95.0, 99.0, 99.9]),
)
def test_an_interval_holds_its_percentile(values: list[float], share: float) -> None:
    found = percentile_interval(np.array(values), share)
    assert min(values) <= found.low <= found.value <= found.high
    assert found.high <= max(values) or math.isinf(found.high)
    assert found.told == (len(values) >= least_samples(share / 100))


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    independent = np.random.default_rng(0).lognormal(size=1000)
    alike = np.repeat(independent[:100], 10)
    narrow, wide = (percentile_interval(values, 50.0) for values in (independent, alike))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_percentile_is_told_with_its_interval_or_with_what_it_lacks() -> None:
    values = np.random.default_rng(0).lognormal(size=662)
    assert percentile_interval(values[1:], 99.0).words == "not enough samples (661 of 662)"
    found = percentile_interval(values, 99.0)
    assert found.words.startswith(f"{found.value:.3f} ({found.low:.3f} to ")
    assert found.bound == max(values)
    assert percentile_interval(values, 50.0).words == "0.968 (0.863 to 1.070)"
