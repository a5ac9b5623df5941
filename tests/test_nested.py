from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from edgekit.nested import is_nested, leaves, mapped


@dataclass
class Pair:
    first: int
    second: Any


class Named(NamedTuple):
    h: int
    c: int


STRUCTURES = [
    ({"x": 1, "hx": (2, 3)}, {"x": 1, "hx.0": 2, "hx.1": 3}),
    (Pair(1, [2, None, 3]), {"first": 1, "second.0": 2, "second.2": 3}),
    ({"state": Named(1, 2)}, {"state.h": 1, "state.c": 2}),
    ((), {}),
    (7, {"": 7}),
]


@pytest.mark.parametrize(("value", "named"), STRUCTURES)
def test_each_leaf_is_named_after_its_place(value: Any, named: dict[str, int]) -> None:
    assert leaves(value) == named
    assert is_nested(value) == (value != 7)


@pytest.mark.parametrize(("value", "named"), STRUCTURES)
def test_the_structure_is_kept_when_its_leaves_change(value: Any, named: dict[str, int]) -> None:
    other = mapped(value, lambda name, leaf: (f"{name}!", leaf).__hash__())
    assert type(other) is type(value) or value == 7
    assert leaves(other) == {name: hash((f"{name}!", leaf)) for name, leaf in named.items()}
    assert leaves(value) == named  # and the first one is as it was


def test_model_outputs_of_transformers_keep_their_type() -> None:
    one = BaseModelOutput(last_hidden_state=torch.zeros(1), hidden_states=(torch.ones(1),) * 2)
    other = mapped(one, lambda _, tensor: tensor + 1)
    assert isinstance(other, BaseModelOutput)
    assert list(leaves(other)) == ["last_hidden_state", "hidden_states.0", "hidden_states.1"]
    assert other.hidden_states[1].item() == 2
    assert one.hidden_states[1].item() == 1
