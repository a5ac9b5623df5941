"""The cubic schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.sparse.masks import Pattern
from edgekit.compress.sparse.schedule import at, cubic, is_update


def test_the_shape_is_cubic() -> None:
    assert [cubic(x) for x in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [0.0, 0.0, 0.875, 1.0, 1.0]


def test_sparsity_ramps_from_a_tenth_to_three_quarters_of_training() -> None:
    assert at(0.8, 10, 100) == 0.0
    assert at(0.8, 75, 100) == 0.8
    assert at(0.8, 100, 100) == 0.8
    steps = [at(0.8, step, 1000) for step in range(1001)]
    assert steps == sorted(steps)
    first, last = steps[200] - steps[100], steps[750] - steps[650]
    assert first > 20 * last > 0


def test_a_pattern_loses_one_weight_after_the_other() -> None:
    keeps = [at(Pattern(2, 4), step, 100).keep for step in range(101)]
    assert keeps == sorted(keeps, reverse=True)
    assert set(keeps) == {4, 3, 2}


@given(st.integers(1, 3000))
def test_the_last_update_has_the_whole_sparsity(steps: int) -> None:
    updates = [step for step in range(1, steps + 1) if is_update(step, steps)]
    assert 1 <= len(updates) <= 101
    assert at(0.9, updates[-1], steps) == pytest.approx(0.9)


def test_weights_have_time_to_recover() -> None:
    assert max(step for step in range(1001) if is_update(step, 1000)) == 750
