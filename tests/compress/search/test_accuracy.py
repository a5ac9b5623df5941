from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.search.accuracy import fewest_float

NAMES = [f"op{i}" for i in range(9)]


def never() -> bool:
    return False


class Clock:
    """Says so many times that there is time left; then there is not."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.allowed = 0

    def __call__(self) -> bool:
        if self.allowed == self.left:
            return True
        self.allowed += 1
        return False


@st.composite
def monotone(draw: st.DrawFn) -> Callable[[frozenset[str]], bool]:
    """A budget that holds once any of some sets of operators is float."""
    needed = draw(st.lists(st.frozensets(st.sampled_from(NAMES)), max_size=4))
    return lambda floats: any(one <= floats for one in needed)


@given(monotone(), st.permutations(NAMES))
def test_no_operator_of_the_result_could_be_quantized(
    inside: Callable[[frozenset[str]], bool], ranked: list[str]
) -> None:
    found, held = fewest_float(ranked, inside, never)
    assert held == inside(frozenset(NAMES))
    if held:
        assert inside(found)
        assert not any(inside(found - {name}) for name in found)
    else:
        assert found == frozenset(NAMES)


@given(st.integers(0, 9))
def test_when_the_first_ones_are_to_blame_exactly_these_are_left_float(count: int) -> None:
    wanted = frozenset(NAMES[:count])
    assert fewest_float(NAMES, wanted.issubset, never) == (wanted, True)


@given(st.frozensets(st.sampled_from(NAMES), min_size=1), st.permutations(NAMES))
def test_the_fewest_are_found_whatever_the_ranking_when_only_one_set_helps(
    wanted: frozenset[str], ranked: list[str]
) -> None:
    assert fewest_float(ranked, wanted.issubset, never) == (wanted, True)


@given(monotone(), st.permutations(NAMES), st.integers(0, 20))
def test_when_time_runs_out_what_is_returned_still_keeps_the_budget(
    inside: Callable[[frozenset[str]], bool], ranked: list[str], tries: int
) -> None:
    found, held = fewest_float(ranked, inside, Clock(tries))
    if held:
        assert inside(found)


@given(monotone(), st.permutations(NAMES), st.integers(0, 20))
def test_the_time_is_asked_for_before_every_try(
    inside: Callable[[frozenset[str]], bool], ranked: list[str], tries: int
) -> None:
    clock = Clock(tries)
    tried = []

    def counted(floats: frozenset[str]) -> bool:
        tried.append(floats)
        # the all-int8 model is always looked at: without it there is nothing to say
        assert len(tried) <= 1 + clock.allowed
        return inside(floats)

    found, _ = fewest_float(ranked, counted, clock)
    assert found in tried, "neither in nor out of the budget: nobody looked at it"


@given(monotone(), st.permutations(NAMES))
def test_tries_grow_with_the_operators_that_are_needed_only(
    inside: Callable[[frozenset[str]], bool], ranked: list[str]
) -> None:
    tries = []

    def counted(floats: frozenset[str]) -> bool:
        tries.append(floats)
        return inside(floats)

    fewest_float(ranked, counted, never)
    assert len(tries) <= 2 + 2 * 4 + len(NAMES)


def test_a_model_inside_the_budget_costs_one_try() -> None:
    tries = []

    def inside(floats: frozenset[str]) -> bool:
        tries.append(floats)
        return True

    assert fewest_float(NAMES, inside, never) == (frozenset(), True)
    assert tries == [frozenset()]


def test_without_operators_there_is_nothing_to_leave_float() -> None:
    assert fewest_float([], lambda _: False, never) == (frozenset(), False)
