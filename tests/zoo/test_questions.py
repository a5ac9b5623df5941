"""Questions about scenes: their answers hold, and questions alone do not tell them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgekit.zoo._questions import ANSWERS, ASKED, QUESTION_WORDS, TOPICS, ask, asked
from edgekit.zoo._things import COLOURS, KINDS, SHAPES, SIZES, crowds, encode

_SINGULAR = {"circles": "circle", "squares": "square", "triangles": "triangle",
             "crosses": "cross", "rings": "ring"}  # fmt: skip
_STEPS = {"right": (0, 1), "left": (0, -1), "below": (1, 0), "above": (-1, 0)}
_VALUES = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}


def _answer(kinds: list[int], text: str) -> str:
    """Read off the scene, word by word; fails where "the" thing is not the only one."""
    scene = {divmod(cell, 2): KINDS[kind] for cell, kind in enumerate(kinds) if kind >= 0}
    words = [_SINGULAR.get(word, word) for word in text.split()]
    place = next((word for word in words if word in _STEPS), None)
    said = {word for word in words if any(word in values for values in _VALUES.values())}
    cells = [cell for cell, thing in scene.items() if said <= set(thing)]
    if words[0] == "is":
        return "yes" if cells else "no"
    if words[0] == "how":
        return str(len(cells))
    ((row, column),) = cells
    down, right = _STEPS[place] if place else (0, 0)
    thing = scene[row + down, column + right]
    return thing[list(_VALUES).index(words[1])]


@pytest.mark.parametrize("held_out", [False, True])
def test_answers_hold_in_the_scene(held_out) -> None:
    generator = np.random.default_rng(0)
    kinds = crowds(600, generator, held_out=held_out)
    texts, answers, topics = asked(kinds, generator)
    assert [ANSWERS[answer] for answer in answers] == [
        _answer(row, text) for row, text in zip(kinds.tolist(), texts, strict=True)
    ]
    encoded = encode(texts, QUESTION_WORDS, ASKED)
    assert encoded.shape == (600, ASKED)
    assert (encoded[:, -1] > 0).any()  # the longest question fills it
    assert all(count > 60 for count in np.bincount(topics, minlength=len(TOPICS)))


def test_there_is_such_a_thing_as_often_as_not() -> None:
    generator = np.random.default_rng(1)
    found = [ask(row, "exists", generator) for row in crowds(500, generator, held_out=False)]
    answers = Counter(pair[1] for pair in found if pair)
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_nothing_is_asked_of_neighbours_where_there_are_none() -> None:
    generator = np.random.default_rng(2)
    assert ask([0, -1, -1, 20], "beside", generator) is None
    assert ask([0, 20, -1, -1], "beside", generator) is not None
    # Two of a kind: neither is "the" thing.
    assert ask([7, 7, -1, -1], "colour", generator) is None
