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

__all__ = ["CONTEXT", "IMAGE", "ITEM", "SHOTS", "WORDS", "episodes", "texts"]

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
    asked, values, words = _meanings(count, generator)
    item = generator.integers(SHOTS, size=(count, _ITEMS))
    named = _named(asked, np.take_along_axis(values, item, 1), generator)
    return _written(named, np.take_along_axis(words, item, 1))


def episodes(
    count: int, generator: np.random.Generator, *, held_out: bool, named: bool = False
) -> dict[str, Array]:
    """Five images, the tokens up to the word that is asked for, and that word's token.

    Args:
        count: of episodes.
        generator: draws them.
        held_out: whether each asks about a thing of a kind that is never shown otherwise.
        named: some of the texts have names, in some episodes most and in others few: easier ones,
            with which learning begins.

    Returns:
        ``images`` (count, 5, 3, 32, 32), ``tokens`` (count, 14) and ``answer`` (count,), int64.
    """
    asked, values, words = _meanings(count, generator)
    item = generator.integers(SHOTS, size=(count, 1))
    shown = _kinds(values, generator, ~HELD_OUT | held_out)
    last = _kinds(np.take_along_axis(values, item, 1), generator, held_out == HELD_OUT)
    answer = np.take_along_axis(words, item, 1)
    names = np.concatenate([values, np.take_along_axis(values, item, 1)], 1)
    names = _named(asked, names, generator) if named else asked[:, None].repeat(SHOTS + 1, 1)
    tokens = _written(names, np.concatenate([words, answer], 1))
    return {
        "images": _pictures(np.concatenate([shown, last], 1), generator),
        "tokens": tokens[:, :-1],
        "answer": answer[:, 0],
    }


def _meanings(count: int, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """What is asked for (count,), a token; four values of it, and a word's token for each."""
    attribute = generator.integers(len(_ASKED), size=(count, 1))
    is_shape = np.arange(len(_VALUES)) >= len(COLOURS)
    order = generator.random((count, len(_VALUES))) + (is_shape != attribute)
    words = generator.random((count, len(_NEW))).argsort(1)[:, :SHOTS] + WORDS.index(_NEW[0])
    return attribute[:, 0] + WORDS.index(_ASKED[0]), order.argsort(1)[:, :SHOTS], words


def _named(asked: Array, values: Array, generator: np.random.Generator) -> Array:
    """The names of values (n, items), as tokens, or what is asked for in place of a few or most."""
    hidden = generator.random(values.shape) < generator.random((len(values), 1)) ** 2
    return np.where(hidden, asked[:, None], values + WORDS.index(_VALUES[0]))


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


def _written(named: Array, words: Array) -> Array:
    """Items (n, items) of an image, a name and a word, as tokens (n, 3 * items)."""
    items = np.stack([np.full_like(named, IMAGE), named, words], 2)
    return items.reshape(len(items), -1)
