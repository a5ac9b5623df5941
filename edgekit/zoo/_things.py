"""Small scenes of coloured shapes, and sentences about them, all drawn from a seed.

A scene has 2x2 cells, each empty or with one thing in it: one of 60 kinds, which are the
combinations of a size, a colour and a shape. Twelve of them are held out, in the manner of CLEVR's
CoGenT (Johnson et al., 2017): training never shows a thing of such a kind, and every scene that is
judged has one. So a model has to put together what it knows of sizes, colours and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np

from edgekit.spec import Array

__all__ = [
    "CELLS", "COLOURS", "END", "HELD_OUT", "KINDS", "SHAPES", "SIZES", "WIDTH", "WORDS",
    "arrange", "caption", "crowds", "encode", "pairs", "render", "spell",
]  # fmt: skip

SIZES = ("small", "large")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "cross", "ring")
#: What a thing may be: (size, colour, shape).
KINDS = tuple(product(SIZES, COLOURS, SHAPES))
CELLS = 4
#: Pixels of a cell's side.
_CELL = 16
#: Of each kind. Any two attributes of a held-out kind are shown together in training, but never
#: all three.
HELD_OUT = np.array([(3 * s + c + f) % 5 == 0 for s, c, f in product(*map(range, (2, 6, 5)))])
_PAINT = np.array(
    [(0.9, 0.15, 0.15), (0.15, 0.75, 0.2), (0.2, 0.3, 0.95), (0.95, 0.85, 0.15),
     (0.65, 0.2, 0.8), (0.2, 0.85, 0.9)], np.float32,
)  # fmt: skip
_RADIUS = np.array([(3.2, 3.8), (5.6, 6.4)], np.float32)
_NOISE = 0.03

END = "<end>"
#: All words of captions; 0 stands for what is behind a sentence's end.
WORDS = ("", END, "a", *SIZES, *COLOURS, *SHAPES, "left", "right", "of", "above", "below")
#: Words of the longest caption with its end.
WIDTH = 11


def pairs(count: int, generator: np.random.Generator, *, held_out: bool) -> Array:
    """Kinds of two things side by side or one above the other, see :func:`arrange`."""
    taken = np.array([(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1)], bool)
    return arrange(taken[generator.integers(len(taken), size=count)], generator, held_out=held_out)


def crowds(count: int, generator: np.random.Generator, *, held_out: bool) -> Array:
    """Kinds of two to four things, see :func:`arrange`."""
    many = generator.integers(2, CELLS + 1, (count, 1))
    order = generator.random((count, CELLS)).argsort(axis=1)
    return arrange(order < many, generator, held_out=held_out)


def arrange(taken: Array, generator: np.random.Generator, *, held_out: bool) -> Array:
    """A kind for each cell of ``taken`` (n, 4), bool: int64 (n, 4), an index of KINDS or -1.

    Cells are in reading order.
    """
    known = np.flatnonzero(~HELD_OUT)
    if not held_out:
        return np.where(taken, generator.choice(known, taken.shape), -1)
    kinds = np.where(taken, generator.integers(len(KINDS), size=taken.shape), -1)
    chosen = np.where(taken, generator.random(taken.shape), -1).argmax(axis=1)
    kinds[np.arange(len(kinds)), chosen] = generator.choice(np.flatnonzero(HELD_OUT), len(kinds))
    return kinds


def render(kinds: Array, generator: np.random.Generator) -> Array:
    """Images of scenes (n, 4): float32 (n, 3, 32, 32), about 0 to 1.

    Where in its cell a thing is, how large it is exactly, its shade and what is behind vary.
    """
    count = len(kinds)
    grey = generator.uniform(0, 0.3, (count, 1, 1, 1)).astype(np.float32)
    shape = (count, 3, 2 * _CELL, 2 * _CELL)
    images = grey + _NOISE * generator.standard_normal(shape, np.float32)
    cells = images.reshape(count, 3, 2, _CELL, 2, _CELL)
    for cell in range(CELLS):
        here = np.flatnonzero(kinds[:, cell] >= 0)
        window = cells[:, :, cell // 2, :, cell % 2]
        kind = kinds[here, cell]
        colour = kind // len(SHAPES) % len(COLOURS)
        paint = _PAINT[colour] + generator.uniform(-0.08, 0.08, (len(here), 3))
        cover = _cover(kind, generator)[:, None]
        window[here] += cover * (paint[:, :, None, None].astype(np.float32) - grey[here])
    return images


def caption(kinds: Sequence[int], *, turned: bool = False) -> str:
    """Of a scene of two things; ``turned`` begins with the lower or the right one."""
    first, second = (cell for cell in range(CELLS) if kinds[cell] >= 0)
    places = ("above", "below") if second - first == 2 else ("left of", "right of")
    if turned:
        first, second = second, first
    one, other = (" ".join(KINDS[kinds[cell]]) for cell in (first, second))
    return f"a {one} {places[turned]} a {other}"


def encode(texts: Iterable[str], words: Sequence[str], width: int) -> Array:
    """Indices of the words, int64 (n, width), with 0 behind a sentence's end."""
    index = {word: place for place, word in enumerate(words)}
    rows = [[index[word] for word in text.split()] for text in texts]
    return np.array([row + [0] * (width - len(row)) for row in rows], np.int64)


def spell(indices: Array, words: Sequence[str]) -> list[str]:
    """The sentences of such indices, up to their ends."""
    return [" ".join(words[one] for one in row).split(END)[0].strip() for row in indices]


def _cover(kind: Array, generator: np.random.Generator) -> Array:
    """How much of each pixel of its cell a thing covers: float32 (n, 16, 16) in [0, 1]."""
    count = len(kind)
    low, high = _RADIUS[kind // (len(SHAPES) * len(COLOURS))].T
    radius = generator.uniform(low, high)[:, None, None].astype(np.float32)
    centre = generator.uniform(-1.5, 1.5, (2, count, 1, 1)).astype(np.float32) + (_CELL - 1) / 2
    pixels = np.arange(_CELL, dtype=np.float32)
    beyond = np.empty((count, _CELL, _CELL), np.float32)
    for shape, distance in enumerate(_DISTANCES):
        of = kind % len(SHAPES) == shape
        x, y = pixels - centre[0, of], pixels[:, None] - centre[1, of]
        beyond[of] = distance(x, y, radius[of])
    covered: Array = np.clip(0.5 - beyond, 0, 1)
    return covered


def _circle(x: Array, y: Array, radius: Array) -> Array:
    beyond: Array = np.hypot(x, y) - radius
    return beyond


def _square(x: Array, y: Array, radius: Array) -> Array:
    beyond: Array = np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius
    return beyond


def _triangle(x: Array, y: Array, radius: Array) -> Array:
    beyond: Array = np.maximum(y - 0.8 * radius, (1.8 * np.abs(x) - y - radius) / 2.06)
    return beyond


def _cross(x: Array, y: Array, radius: Array) -> Array:
    long, short = radius, 0.33 * radius
    x, y = np.abs(x), np.abs(y)
    beyond: Array = np.minimum(np.maximum(x - long, y - short), np.maximum(y - long, x - short))
    return beyond


def _ring(x: Array, y: Array, radius: Array) -> Array:
    beyond: Array = np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius
    return beyond


#: Pixels from a shape's border, below 0 inside, at (x, y) from its centre; y grows downwards.
_DISTANCES: tuple[Callable[[Array, Array, Array], Array], ...] = (
    _circle, _square, _triangle, _cross, _ring,
)  # fmt: skip
