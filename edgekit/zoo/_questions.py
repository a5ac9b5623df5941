"""Questions about scenes of coloured shapes, and their answers, in the manner of CLEVR.

Of six kinds: whether there is such a thing, how many there are, a thing's size, colour or shape,
and one of these of what is beside a thing. What a question speaks of by "the", there is once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np

from edgekit.spec import Array
from edgekit.zoo._things import COLOURS, KINDS, SHAPES, SIZES

__all__ = ["ANSWERS", "ASKED", "QUESTION_WORDS", "TOPICS", "ask", "asked"]

TOPICS = ("exists", "count", "size", "colour", "shape", "beside")
ANSWERS = ("yes", "no", *"01234", *SIZES, *COLOURS, *SHAPES)
_MANY = {"thing": "things", "cross": "crosses"} | {
    shape: f"{shape}s" for shape in SHAPES if shape != "cross"
}
#: All words of questions; 0 stands for what is behind a question's end.
QUESTION_WORDS = (
    "", *SIZES, *COLOURS, *SHAPES, *_MANY.values(), "is", "there", "a", "how", "many", "are",
    "what", "size", "colour", "shape", "the", "thing", "left", "right", "of", "above", "below",
)  # fmt: skip
#: Words of the longest question: "what colour is the thing left of the small red circle".
ASKED = 11
_ATTRIBUTES = ("size", "colour", "shape")
_VALUES = (SIZES, COLOURS, SHAPES)
#: By the cell of a thing: (how a neighbour stands to it, the neighbour's cell).
_BESIDE = (
    (("right of", 1), ("below", 2)),
    (("left of", 0), ("below", 3)),
    (("above", 0), ("right of", 3)),
    (("above", 1), ("left of", 2)),
)
#: The things of a scene by their cells.
_Scene = Mapping[int, tuple[str, ...]]
#: What is said of a thing: values by the indices of attributes.
_Said = Mapping[int, str]
_T = TypeVar("_T")


def asked(kinds: Array, generator: np.random.Generator) -> tuple[list[str], Array, Array]:
    """A question about each scene (n, 4), the indices of its answer and of its topic, (n,)."""
    found = []
    for row in kinds.tolist():
        # Of the first topic of which this scene allows a question.
        for topic in generator.permutation(len(TOPICS)).tolist():
            pair = ask(row, TOPICS[topic], generator)
            if pair is not None:
                found.append((pair[0], ANSWERS.index(pair[1]), topic))
                break
    texts, answers, topics = zip(*found, strict=True)
    return list(texts), np.array(answers, np.int64), np.array(topics, np.int64)


def ask(kinds: Sequence[int], topic: str, generator: np.random.Generator) -> tuple[str, str] | None:
    """A question on such a topic about a scene, and its answer; None where there is none."""
    scene = {cell: KINDS[kind] for cell, kind in enumerate(kinds) if kind >= 0}
    if topic == "exists":
        return _exists(scene, generator)
    if topic == "count":
        return _count(scene, generator)
    if topic == "beside":
        return _beside(scene, generator)
    return _attribute(scene, _ATTRIBUTES.index(topic), generator)


def _exists(scene: _Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    """Two attributes: of one thing, or of two so that no thing has both; as often yes as no."""
    answer = ("yes", "no")[generator.integers(2)]
    things = list(scene.values())
    options = [
        said
        for i, j in combinations(range(3), 2)
        for one in things
        for other in ([one] if answer == "yes" else things)
        if (_matches(scene, said := {i: one[i], j: other[j]}) > 0) == (answer == "yes")
    ]
    return (f"is there a {_noun(_one(options, generator))}", answer) if options else None


def _count(scene: _Scene, generator: np.random.Generator) -> tuple[str, str]:
    """With no attribute, or with one that half of the time some thing has."""
    which = int(generator.integers(4))
    said = {}
    if which < 3:
        seen = [thing[which] for thing in scene.values()]
        said = {which: _one(seen if generator.integers(2) else _VALUES[which], generator)}
    return f"how many {_noun(said, many=True)} are there", str(_matches(scene, said))


def _attribute(scene: _Scene, which: int, generator: np.random.Generator) -> tuple[str, str] | None:
    others = [one for one in range(3) if one != which]
    options = [(thing, said) for thing in scene.values() for said in _only(scene, thing, others)]
    if not options:
        return None
    thing, said = _one(options, generator)
    return f"what {_ATTRIBUTES[which]} is the {_noun(said)}", thing[which]


def _beside(scene: _Scene, generator: np.random.Generator) -> tuple[str, str] | None:
    options = [
        (place, scene[neighbour], said)
        for cell, thing in scene.items()
        for place, neighbour in _BESIDE[cell]
        if neighbour in scene
        for said in _only(scene, thing, range(3))
    ]
    if not options:
        return None
    place, thing, said = _one(options, generator)
    which = int(generator.integers(3))
    return f"what {_ATTRIBUTES[which]} is the thing {place} the {_noun(said)}", thing[which]


def _only(scene: _Scene, thing: Sequence[str], which: Sequence[int]) -> list[_Said]:
    """What may be said of a thing, by some of these attributes, that is true of it alone."""
    said = (
        {i: thing[i] for i in some}
        for many in range(1, len(which) + 1)
        for some in combinations(which, many)
    )
    return [one for one in said if _matches(scene, one) == 1]


def _matches(scene: _Scene, said: _Said) -> int:
    """Of how many things this is true."""
    return sum(all(thing[i] == value for i, value in said.items()) for thing in scene.values())


def _noun(said: _Said, *, many: bool = False) -> str:
    """Such as "small red thing" or "circles"."""
    noun = said.get(2, "thing")
    words = [said[i] for i in (0, 1) if i in said]
    return " ".join([*words, _MANY[noun] if many else noun])


def _one(options: Sequence[_T], generator: np.random.Generator) -> _T:
    return options[int(generator.integers(len(options)))]
