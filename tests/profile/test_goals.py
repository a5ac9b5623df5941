"""The grammar of goals: what is read, what is refused, and in which words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import SpecError
from edgekit.profile.goals import UNITS, Goal, parse_goal


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("p99<10ms", Goal("p99", "<", 10, "ms")),
        ("p99.9<=800us", Goal("p99.9", "<=", 800, "us")),
        ("drop<0.5", Goal("drop", "<", 0.5)),
        ("drop < 0.5 %", Goal("drop", "<", 0.5, "%")),
        ("throughput>100", Goal("throughput", ">", 100)),
        ("peak>=1.5GB", Goal("peak", ">=", 1.5, "GB")),
        ("mean<1e-3s", Goal("mean", "<", 0.001, "s")),
    ],
)
def test_goals_are_read(text: str, goal: Goal) -> None:
    assert parse_goal(text, option="--gate") == goal


@pytest.mark.parametrize(
    "text",
    ["", "p99", "p99<", "<10ms", "p99=10ms", "p99<10 parsecs", "p99<10MS", "p99<<10", "p99<nan",
     "p99<inf", "p99<1e999", "p99<10ms p90<5ms", "9p<10ms", "p99<٣ms"],
)  # fmt: skip
def test_what_is_no_goal_is_refused_in_one_line_that_names_the_option(text: str) -> None:
    with pytest.raises(SpecError, match=r"^--gate: ") as caught:
        parse_goal(text, option="--gate")
    assert "\n" not in str(caught.value)


def test_a_goal_that_the_shell_cut_off_says_to_quote_it() -> None:
    with pytest.raises(SpecError, match="in quotes"):
        parse_goal("throughput", option="--gate")


goals = st.builds(
    Goal,
    metric=st.from_regex(r"[A-Za-z][A-Za-z0-9_./-]{0,10}", fullmatch=True),
    op=st.sampled_from(["<", "<=", ">", ">="]),
    value=st.floats(allow_nan=False, allow_infinity=False).map(lambda x: float(f"{x:.15g}")),
    unit=st.sampled_from(list(UNITS)),
)


@given(goals)
def test_a_written_goal_reads_as_itself(goal: Goal) -> None:
    if math.isfinite(goal.value):  # rounding the largest floats may leave the range
        assert parse_goal(str(goal), option="--gate") == goal


@given(st.text(max_size=20))
def test_any_text_is_a_goal_or_refused(text: str) -> None:
    try:
        found = parse_goal(text, option="--gate")
    except SpecError:
        return
    assert math.isfinite(found.value)


@given(goals, st.floats())
def test_a_goal_is_met_by_what_its_operator_says_and_never_by_nan(goal: Goal, value: float) -> None:
    if math.isnan(value):
        assert not goal.met(value, goal.unit)
    else:
        below = value < goal.value or ("=" in goal.op and value == goal.value)
        above = value > goal.value or ("=" in goal.op and value == goal.value)
        assert goal.met(value, goal.unit) == (below if "<" in goal.op else above)


def test_values_convert_within_their_quantity_only() -> None:
    goal = parse_goal("p99<10ms", option="--gate")
    assert goal.value_in("us") == pytest.approx(10_000)
    assert goal.met(0.0099, "s")
    with pytest.raises(SpecError, match="must be a memory"):
        goal.value_in("MB")


@pytest.mark.parametrize(("metric", "share"), [("p99", 99), ("p99.9", 99.9), ("p0", None),
                                               ("p100", None), ("mean", None)])  # fmt: skip
def test_percentiles_are_numbers_above_0_and_below_100(metric: str, share: float | None) -> None:
    assert Goal(metric, "<", 1, "ms").percentile == share
