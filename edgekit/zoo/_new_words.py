"""What few-shot learners of images and text read: made-up words, which mean what is shown.

It is the fast binding of "Multimodal Few-Shot Learning with Frozen Language Models"
(Tsimpoukelli et al., 2021), in miniature: five images with text, of which the first four are called
by a made-up word each, and the last one asks for its word. A word means a colour or a shape, and
which one is drawn anew for each episode, so that nothing but its images tells::

    <image> colour dax <image> colour wug <image> colour fep <image> colour zop <image> colour

Text alone has names of colours and shapes in these places (``<image> red dax``). What it teaches
is that what was called by a word before is called by that word again.
"""

from __future__ import annotations

import numpy as np

from edgekit.spec import Array
from edgekit.zoo._things import CELLS, COLOURS, HELD_OUT, KINDS, SHAPES, render

__all__ = ["CONTEXT", "IMAGE", "ITEM", "SHOTS", "WORDS", "episodes", "lessons", "texts"]

#: Images with a word before the one that is asked about.
SHOTS = 4
#: Tokens of an image with its text.
ITEM = 3
_ITEMS = 8
#: Tokens of a text.
CONTEXT = ITEM * _ITEMS
_ASKED = ("colour", "shape")
_VALUES = (*COLOURS, *SHAPES)
_NEW = (
    "dax", "wug", "fep", "zop", "blick", "toma", "kiki", "bouba",
    "gazzer", "modi", "pim", "lorp", "teeb", "vash", "quil", "nurn",
)  # fmt: skip
#: All words.
WORDS = ("<image>", *_ASKED, *_VALUES, *_NEW)
IMAGE = WORDS.index("<image>")
#: (60, 11), whether a kind is of a colour or a shape.
_OF_VALUE = np.array([[value in kind for value in _VALUES] for kind in KINDS])


def texts(count: int, generator: np.random.Generator) -> Array:
    """Texts of eight items each, which have four names and words: int64 (count, 24)."""
    item = generator.integers(SHOTS, size=(count, _ITEMS))
    return _told(item, generator.random((count, 1)) ** 4, generator)[0]


def lessons(count: int, generator: np.random.Generator) -> dict[str, Array]:
    """Episodes to learn from, of things that come in any order and again.

    Some of their texts have names, in some episodes most and in others few: easier ones, with
    which learning begins. Things of a held-out kind are never shown. See :func:`episodes`.
    """
    item = generator.integers(SHOTS, size=(count, SHOTS + 1))
    tokens, values = _told(item, generator.random((count, 1)) ** 2, generator)
    return _illustrated(tokens, _kinds(values, generator, ~HELD_OUT), generator)


def episodes(count: int, generator: np.random.Generator, *, held_out: bool) -> dict[str, Array]:
    """Four images with a word each, one that asks for a word, and that word's token.

    Args:
        count: of episodes.
        generator: draws them.
        held_out: whether each asks about a thing of a kind that is never shown otherwise.

    Returns:
        ``images`` (count, 5, 3, 32, 32), ``tokens`` (count, 14) and ``answer`` (count,), int64.
    """
    item = np.arange(SHOTS + 1).repeat(count).reshape(-1, count).T
    item[:, SHOTS] = generator.integers(SHOTS, size=count)
    tokens, values = _told(item, np.ones((count, 1)), generator)
    shown = _kinds(values[:, :SHOTS], generator, ~HELD_OUT | np.bool_(held_out))
    last = _kinds(values[:, SHOTS:], generator, np.equal(HELD_OUT, held_out))
    return _illustrated(tokens, np.concatenate([shown, last], 1), generator)


def _told(item: Array, share: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Items (n, items), each one of four, as tokens (n, 3 * items); and what these four are.

    They are all colours, or all shapes, and each has a word. A share (n, 1) is not named.
    """
    count = len(item)
    attribute = generator.integers(len(_ASKED), size=(count, 1))
    is_shape = np.arange(len(_VALUES)) >= len(COLOURS)
    order = (generator.random((count, len(_VALUES))) + (is_shape != attribute)).argsort(1)
    values = np.take_along_axis(order, item, 1)
    words = np.take_along_axis(generator.random((count, len(_NEW))).argsort(1), item, 1)
    hidden = generator.random(item.shape) < share
    names = np.where(hidden, attribute + WORDS.index(_ASKED[0]), values + WORDS.index(_VALUES[0]))
    tokens = np.stack([np.full_like(item, IMAGE), names, words + WORDS.index(_NEW[0])], 2)
    return tokens.reshape(count, -1), values


def _illustrated(tokens: Array, kinds: Array, generator: np.random.Generator) -> dict[str, Array]:
    return {
        "images": _pictures(kinds, generator),
        "tokens": tokens[:, :-1],
        "answer": tokens[:, -1],
    }


def _kinds(values: Array, generator: np.random.Generator, allowed: Array) -> Array:
    """A kind with each value, of those that are allowed, (60,), bool."""
    kinds = np.empty_like(values)
    for value in range(len(_VALUES)):
        here = values == value
        kinds[here] = generator.choice(np.flatnonzero(_OF_VALUE[:, value] & allowed), here.sum())
    return kinds


def _pictures(kinds: Array, generator: np.random.Generator) -> Array:
    """Of one thing each, anywhere: (n, images) to (n, images, 3, 32, 32)."""
    scenes = np.full((kinds.size, CELLS), -1)
    scenes[np.arange(kinds.size), generator.integers(CELLS, size=kinds.size)] = kinds.ravel()
    images = render(scenes, generator)
    return images.reshape(*kinds.shape, *images.shape[1:])
