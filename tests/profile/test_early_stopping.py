"""MLPerf's early stopping against its published figures and against the exact distribution."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.profile.percentiles import early_stopping, most_late
from edgekit.profile.stats import least_samples


@pytest.mark.parametrize(
    ("share", "none_late", "one_late"),
    [(0.5, 7, 11), (0.9, 44, 64), (0.95, 90, 130), (0.99, 459, 662), (0.999, 4603, 6636)],
)
def test_the_least_numbers_are_those_of_the_rules(
    share: float, none_late: int, one_late: int
) -> None:
    assert [most_late(none_late - 1, share), most_late(none_late, share)] == [-1, 0]
    assert [most_late(one_late - 1, share), most_late(one_late, share)] == [0, 1]
    assert least_samples(share) == one_late


def test_loadgen_discards_as_many() -> None:
    # From two summaries of loadgen, a published and an own one: "Processed at least 64 queries
    # (4776846). Would discard 476158 highest latency queries", "(318) ... 18".
    assert most_late(4_776_846, 0.9) - 1 == 476_158
    assert most_late(318, 0.9) - 1 == 18


@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_no_more_may_be_late_than_chance_hardly_gives(count: int, share: float) -> None:
    def up_to(late: int) -> float:
        return sum(
            comb(count, k) * (1 - share) ** k * share ** (count - k) for k in range(late + 1)
        )

    found = most_late(count, share)
    assert found < 0 or up_to(found) <= 0.01 * (1 + 1e-9)
    assert up_to(found + 1) > 0.01 * (1 - 1e-9)


def test_no_queries_prove_nothing() -> None:
    assert most_late(0, 0.99) == -1
    assert early_stopping(np.array([], np.int64), 0.99) is None


def test_with_the_least_number_the_bound_is_the_highest_latency() -> None:
    latencies = np.random.default_rng(0).permutation(662)
    assert early_stopping(latencies, 0.99) == 661
    assert early_stopping(latencies[:-1], 0.99) is None


def test_the_bound_is_above_the_percentile_in_99_of_100_runs() -> None:
    generator = np.random.default_rng(1)
    runs = generator.exponential(1e6, (500, 2000)).astype(np.int64)
    truth = -np.log(0.01) * 1e6
    held = sum((early_stopping(run, 0.99) or 0) >= truth for run in runs)
    assert held >= 490
