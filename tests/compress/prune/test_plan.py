"""Which units stay: the best ones, as many as were asked for, in whole multiples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.prune.plan import Plan, channels_of, make_plan, share_left, unit_costs
from edgekit.spec import Array
from tests.compress.prune.networks import mlp


def plan(scores: Mapping[str, Array] | None = None, *, block: int = 1, **keys: Any) -> Plan:
    model, groups, inputs = mlp(block)
    size = groups[0].size
    generator = np.random.default_rng(0)
    scores = scores or {group.name: generator.random(size) for group in groups}
    keys = {"share": 0.5, "of": "macs", "scope": "global", "multiple": 1, "least": 0.1} | keys
    return make_plan(model, inputs, groups, list(groups), scores, **keys)


ONE_WEAK = {"0": np.linspace(1.0, 2.0, 32), "2": np.linspace(0.1, 0.2, 32)}


def test_a_global_ranking_takes_from_the_weak_group_first() -> None:
    found = plan(ONE_WEAK, share=0.7)
    assert found.kept.keys() == {"2"}
    assert found.kept["2"] == list(range(32 - len(found.kept["2"]), 32))


@pytest.mark.parametrize("multiple", [1, 8])
def test_by_layer_each_group_gives_the_same_share_within_one_multiple(multiple: int) -> None:
    found = plan(ONE_WEAK, share=0.5, scope="layer", multiple=multiple)
    counts = [len(found.kept[name]) for name in ("0", "2")]
    assert abs(counts[0] - counts[1]) <= multiple
    assert max(counts) < 32


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("of", ["macs", "parameters", "channels"])
@pytest.mark.parametrize(("share", "multiple"), [(0.3, 1), (0.5, 1), (0.5, 4), (0.8, 4)])
def test_what_is_left_is_what_was_asked_for_within_one_multiple(
    scope: str, of: str, share: float, multiple: int
) -> None:
    found = plan(scope=scope, of=of, share=share, multiple=multiple)
    # Half of the largest that one multiple in one of the two groups can make of a difference.
    assert found.reached == pytest.approx(share, abs=multiple / 32 / 2 * 1.01)
    model, groups, inputs = mlp()
    assert found.reached == share_left(model, inputs, groups, of)(found.kept)


@settings(max_examples=20)
@given(
    share=st.floats(0.2, 0.95),
    multiple=st.sampled_from([1, 2, 4, 8, 16]),
    scope=st.sampled_from(["global", "layer"]),
    seed=st.integers(0, 100),
)
def test_multiples_and_the_least_are_kept_and_the_best_stay(
    share: float, multiple: int, scope: str, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    scores = {name: generator.random(32) for name in ("0", "2")}
    found = plan(scores, share=share, multiple=multiple, scope=scope, least=0.25)
    for name, units in found.kept.items():
        assert len(units) % multiple == 0
        assert len(units) >= 8
        assert units == sorted(units)
        gone = np.setdiff1d(np.arange(32), units)
        assert scores[name][units].min() >= scores[name][gone].max()


@pytest.mark.parametrize(
    ("block", "multiple", "step"), [(4, 8, 2), (4, 4, 1), (4, 6, 3), (8, 16, 2)]
)
def test_whole_heads_make_up_multiples_of_channels(block: int, multiple: int, step: int) -> None:
    found = plan(block=block, multiple=multiple, share=0.5)
    assert found.kept
    for units in found.kept.values():
        assert len(units) % step == 0
        assert len(units) * block % multiple == 0


def test_a_group_no_larger_than_a_multiple_stays_whole() -> None:
    assert plan(multiple=32, share=0.2).kept == {}


def test_a_later_step_goes_by_the_sizes_before_the_first() -> None:
    """Group 0 had 64 units, and has lost half of them: it is group 2's turn."""
    found = plan(share=0.9, scope="layer", sizes={"0": 64, "2": 32})
    assert found.kept.keys() == {"2"}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_no_group_loses_more_than_it_may(scope: str) -> None:
    found = plan(ONE_WEAK, share=0.05, least=0.5, scope=scope)
    assert {name: len(units) for name, units in found.kept.items()} == {"0": 16, "2": 16}


def test_of_equal_units_the_first_stay() -> None:
    found = plan({"0": np.ones(32), "2": np.ones(32)}, scope="layer", share=0.5)
    assert all(units == list(range(len(units))) for units in found.kept.values())


def test_the_model_is_not_touched() -> None:
    model, groups, inputs = mlp()
    share_left(model, inputs, groups, "macs")({"0": [0, 1]})
    assert model[0].weight.shape == (32, 16)


def test_shares_are_of_what_they_say() -> None:
    model, groups, inputs = mlp()
    kept = {"0": list(range(16))}
    whole = 16 * 32 + 32 * 32 + 32 * 4
    left = 16 * 16 + 16 * 32 + 32 * 4
    assert share_left(model, inputs, groups, "macs")(kept) == pytest.approx(left / whole)
    biases = 32 + 32 + 4
    share = share_left(model, inputs, groups, "parameters")(kept)
    assert share == pytest.approx((left + biases - 16) / (whole + biases))
    assert share_left(model, inputs, groups, "channels")(kept) == pytest.approx(0.75)


def test_a_unit_costs_what_it_is_made_of_and_what_reads_it() -> None:
    model, groups, inputs = mlp()
    assert unit_costs(model, inputs, list(groups)) == {"0": 16 + 32, "2": 32 + 4}
    model, groups, inputs = mlp(block=4)
    assert unit_costs(model, inputs, list(groups)) == {"0": 4 * (16 + 32), "2": 4 * (32 + 4)}


def test_a_unit_has_as_many_channels_as_are_made_for_it() -> None:
    assert [channels_of(mlp(block)[1][0]) for block in (1, 4, 8)] == [1, 4, 8]
