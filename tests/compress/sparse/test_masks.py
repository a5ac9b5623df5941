"""Masks have the right count in each group, keep the largest, and are always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.compress.sparse.masks import (
    Pattern,
    dropped,
    mask_layers,
    mask_pattern,
    mask_ratio,
)

#: Few different values, so that there are ties.
VALUES = st.integers(-4, 4).map(float)
RATIOS = st.floats(0.0, 1.0, exclude_max=True)


def scores(columns: st.SearchStrategy[int]) -> st.SearchStrategy[torch.Tensor]:
    sides = st.tuples(st.integers(1, 3), st.integers(1, 5), columns)
    shaped = sides.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=VALUES))
    return shaped.map(torch.from_numpy)


def lowest_kept_is_no_lower_than_highest_gone(values: torch.Tensor, mask: torch.Tensor) -> bool:
    if bool(mask.all()) or not bool(mask.any()):
        return True
    return bool(values[mask].min() >= values[~mask].max())


@given(scores(st.integers(1, 12)), RATIOS)
def test_a_ratio_of_a_layer(values: torch.Tensor, ratio: float) -> None:
    mask = mask_ratio(values, ratio)
    assert int((~mask).sum()) == dropped(ratio, values.numel()) < values.numel()
    assert lowest_kept_is_no_lower_than_highest_gone(values, mask)
    assert torch.equal(mask, mask_ratio(values.clone(), ratio))


@given(scores(st.integers(1, 12)), RATIOS)
def test_a_ratio_of_each_row(values: torch.Tensor, ratio: float) -> None:
    mask = mask_ratio(values, ratio, by_row=True)
    assert bool(((~mask).sum(-1) == dropped(ratio, values.shape[-1])).all())
    rows = zip(values.flatten(0, 1), mask.flatten(0, 1), strict=True)
    assert all(lowest_kept_is_no_lower_than_highest_gone(*row) for row in rows)


@given(
    st.sampled_from([Pattern(2, 4), Pattern(4, 8), Pattern(1, 4)]).flatmap(
        lambda pattern: st.tuples(
            st.just(pattern), scores(st.integers(1, 3).map(lambda n: n * pattern.of))
        )
    )
)
def test_a_pattern(drawn: tuple[Pattern, torch.Tensor]) -> None:
    pattern, values = drawn
    mask = mask_pattern(values, pattern)
    groups = mask.reshape(-1, pattern.of)
    assert bool((groups.sum(1) == pattern.keep).all())
    pairs = zip(values.reshape(-1, pattern.of), groups, strict=True)
    assert all(lowest_kept_is_no_lower_than_highest_gone(*pair) for pair in pairs)


@given(st.lists(scores(st.integers(1, 6)), min_size=1, max_size=4), RATIOS)
def test_a_ratio_of_all_layers_together(layers: list[torch.Tensor], ratio: float) -> None:
    named = {str(index): values for index, values in enumerate(layers)}
    masks = mask_layers(named, ratio)
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: values.shape for name, values in named.items()
    }
    mask = torch.cat([masks[name].flatten() for name in named])
    values = torch.cat([one.flatten() for one in layers])
    assert int((~mask).sum()) == dropped(ratio, values.numel())
    assert lowest_kept_is_no_lower_than_highest_gone(values, mask)


def test_of_ties_the_later_ones_stay() -> None:
    assert mask_ratio(torch.ones(1, 1, 4), 0.5).tolist() == [[[False, False, True, True]]]
    assert mask_pattern(torch.ones(1, 1, 4), Pattern(2, 4)).flatten().tolist()[2:] == [True, True]


@pytest.mark.parametrize(("ratio", "count"), [(0.29, 29), (0.7, 70), (0.999, 99), (0.0, 0)])
def test_the_count_is_that_of_arithmetic_not_of_floating_point(ratio: float, count: int) -> None:
    assert dropped(ratio, 100) == count


def test_a_pattern_is_read_and_written() -> None:
    assert Pattern.parse("4:8") == Pattern(4, 8)
    assert str(Pattern(2, 4)) == "2:4"
