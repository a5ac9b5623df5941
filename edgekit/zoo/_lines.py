"""Lines of MNIST's digits, as wide as what is written in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgekit.spec import Array
from edgekit.zoo._mnist import augment, mnist

__all__ = ["HEIGHT", "Line", "edits", "lines", "padded"]

HEIGHT = 28
_LEAST, _MOST = 3, 7
#: A column with less ink than this, of a digit's own, is its border.
_INK = 0.3
_NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """One line: float32 (28, width) about 0 to 1, and the digits in it."""

    pixels: Array
    digits: tuple[int, ...]


def lines(count: int, seed: int, *, held_out: bool) -> list[Line]:
    """So many lines, the same ones for the same arguments.

    Held-out ones are of held-out digits; the others' digits are turned and scaled a little.
    """
    generator = np.random.default_rng([seed, held_out])
    data = mnist()
    lengths = generator.integers(_LEAST, _MOST + 1, size=count)
    inputs, labels = (
        (data.test_inputs, data.test_labels) if held_out else (data.train_inputs, data.train_labels)
    )
    chosen = generator.integers(len(inputs), size=lengths.sum())
    digits, labels = inputs[chosen], labels[chosen]
    if not held_out:
        digits = augment(torch.from_numpy(digits), torch.Generator().manual_seed(seed)).numpy()
    ends = lengths.cumsum()[:-1]
    parts = zip(np.split(digits[:, 0], ends), np.split(labels, ends), strict=True)
    return [_line(some, tuple(map(int, those)), generator) for some, those in parts]


def _line(digits: Array, labels: tuple[int, ...], generator: np.random.Generator) -> Line:
    """Digits at uneven distances and heights, some of them touching, and noise."""
    cut = [_cut(digit) for digit in digits]
    gaps = generator.integers(-2, 7, size=len(cut) + 1)
    gaps[[0, -1]] += 3
    width = sum(digit.shape[1] for digit in cut) + int(gaps.sum())
    pixels = np.zeros((HEIGHT, width), np.float32)
    left = 0
    for gap, digit in zip(gaps, cut, strict=False):
        left += gap
        shifted = np.roll(digit, generator.integers(-3, 4), axis=0)
        window = pixels[:, left : left + digit.shape[1]]
        np.maximum(window, shifted, out=window)
        left += digit.shape[1]
    pixels += generator.normal(0, _NOISE, pixels.shape)
    return Line(pixels, labels)


def _cut(digit: Array) -> Array:
    columns = np.flatnonzero(digit.max(axis=0) > _INK)
    return digit[:, columns[0] : columns[-1] + 1]


def padded(some: list[Line], width: int) -> Array:
    """Lines filled up with background, float32 (n, 1, 28, width)."""
    made = np.zeros((len(some), 1, HEIGHT, width), np.float32)
    for image, line in zip(made, some, strict=True):
        image[0, :, : line.pixels.shape[1]] = line.pixels
    return made


def edits(got: tuple[int, ...], wanted: tuple[int, ...]) -> int:
    """Levenshtein's distance: insertions, deletions and substitutions."""
    row = list(range(len(wanted) + 1))
    for i, mine in enumerate(got, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(wanted, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (mine != theirs))
    return row[-1]
