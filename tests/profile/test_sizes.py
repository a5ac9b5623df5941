"""Sizes of what is timed: parsed, and given to a sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import SpecError
from edgekit.profile.sizes import parse_sizes, resized

AXES = {"ids": {0: "batch", 1: "sequence"}, "mask": {0: "batch", 1: "sequence"}, "scale": {}}


def feeds(batch: int = 1, sequence: int = 3) -> dict[str, np.ndarray]:
    ids = np.arange(batch * sequence, dtype=np.int64).reshape(batch, sequence)
    return {"ids": ids, "mask": np.ones_like(ids), "scale": np.float32([2.0])}


def test_sizes_are_read_by_name() -> None:
    assert parse_sizes(["sequence=128", "batch=2"]) == {"sequence": 128, "batch": 2}
    assert parse_sizes([]) == {}


@pytest.mark.parametrize("text", ["sequence", "sequence=", "=4", "sequence=0", "s=-1", "s=1.5"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is no size of a dimension"):
        parse_sizes([text])


def test_values_are_repeated_in_order_or_cut_off() -> None:
    longer = resized(feeds(), AXES, {"sequence": 7})
    assert longer["ids"].tolist() == [[0, 1, 2, 0, 1, 2, 0]]
    assert longer["mask"].shape == (1, 7)
    assert resized(feeds(), AXES, {"sequence": 2})["ids"].tolist() == [[0, 1]]


@given(batch=st.integers(1, 5), sequence=st.integers(1, 9))
def test_every_named_axis_has_its_size_and_all_else_stays(batch: int, sequence: int) -> None:
    old = feeds(2, 4)
    new = resized(old, AXES, {"batch": batch, "sequence": sequence})
    assert new["ids"].shape == new["mask"].shape == (batch, sequence)
    assert new["ids"].dtype == np.int64
    rows, columns = min(batch, 2), min(sequence, 4)
    np.testing.assert_array_equal(new["ids"][:rows, :columns], old["ids"][:rows, :columns])
    np.testing.assert_array_equal(new["scale"], old["scale"])
    assert old["ids"].shape == (2, 4)


def test_a_dimension_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="'sequnce', did you mean 'sequence'"):
        resized(feeds(), AXES, {"sequnce": 8})
