from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import SpecError
from edgekit.spec import TensorSpec
from edgekit.state import State, from_text, pairs, resolved, to_text

INPUTS = (
    TensorSpec("ids", "int64", ("batch", "sequence")),
    TensorSpec("past", "float32", ("batch", 4, "past", 16)),
    TensorSpec("h", "float32", (2, "batch", 8)),
)
OUTPUTS = (
    TensorSpec("logits", "float32", ("batch", "sequence", 10)),
    TensorSpec("present", "float32", ("batch", 4, "past + sequence", 16)),
    TensorSpec("h1", "float32", (2, "batch", 8)),
)


def test_the_batch_is_that_of_the_other_inputs_and_the_length_starts_at_0() -> None:
    states = resolved({"past": "present", "h": "h1"}, INPUTS, OUTPUTS)
    assert states == (
        State("past", "present", (("ids", 0), 4, 0, 16)),
        State("h", "h1", (2, ("ids", 0), 8)),
    )
    assert pairs(states) == {"past": "present", "h": "h1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pst": "present"}, r"'pst' is not an input of this model, did you mean 'past'\?"),
        ({"past": "presnt"}, r"'presnt' is not an output of this model, did you mean 'present'"),
        ({"past": "present", "h": "present"}, "output 'present' replaces more than one input"),
        ({"past": "h1"}, r"state 'h1': has shape \[2, batch, 8\], the input has \[batch, 4, past"),
        ({"ids": "logits"}, "state 'logits': has dtype float32, the input has int64"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message.removesuffix(r"\?")):
        resolved(given, INPUTS, OUTPUTS)


_STARTS = st.lists(st.integers(0, 99) | st.tuples(st.text(), st.integers(0, 7))).map(tuple)


@given(st.lists(st.builds(State, st.text(), st.text(), _STARTS)))
def test_what_is_written_is_read_again(states: list[State]) -> None:
    assert from_text(to_text(states)) == tuple(states)


@pytest.mark.parametrize("text", ["{", "[1]", '[["a", "b", [["x"]]]]', '[["a", "b", [null]]]', "3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"metadata 'edgekit.state': is not a list of states"):
        from_text(text)
