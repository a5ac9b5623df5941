"""Scenes for dense prediction: MNIST's digits pasted on patches of photographs.

Digits and photographs of held-out scenes are those that training never sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from edgekit.spec import Array
from edgekit.zoo._mnist import mnist
from edgekit.zoo._photos import luminance

__all__ = ["Layout", "Scenes", "patches", "scenes"]

#: A photograph is dimmed, so that a digit's stroke is brighter than most of what is behind it.
_DIMMED = 0.6
#: From here on, a pixel of a digit belongs to its stroke.
_STROKE = 0.4
_NOISE = 0.03
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """What scenes are like.

    Attributes:
        side: pixels of height and width.
        most: of digits in a scene; the least is one.
        sizes: of the digits, in pixels, border included; one of them by chance.
    """

    side: int = 48
    most: int = 3
    sizes: tuple[int, ...] = (20, 24, 28)


@dataclass(frozen=True, slots=True)
class Scenes:
    """Scenes and what is in them.

    Attributes:
        images: float32 (n, 1, side, side), about 0 to 1.
        classes: int64 (n, side, side), of each pixel: 0 is background, 1 + d the stroke of a d.
        boxes: float32 (n, most, 4), left, top, right, bottom in pixels; 0 where there is none.
        digits: int64 (n, most); -1 where there is none.
    """

    images: Array
    classes: Array
    boxes: Array
    digits: Array


def scenes(count: int, layout: Layout, seed: int, *, held_out: bool) -> Scenes:
    """So many scenes, the same ones for the same arguments."""
    generator = np.random.default_rng([seed, held_out])
    side, most = layout.side, layout.most
    made = Scenes(
        images=patches(count, side, generator, held_out=held_out) * _DIMMED,
        classes=np.zeros((count, side, side), np.int64),
        boxes=np.zeros((count, most, 4), np.float32),
        digits=np.full((count, most), -1, np.int64),
    )
    wanted = generator.integers(1, most + 1, count)
    strokes, labels = _digits(int(wanted.sum()), layout.sizes, generator, held_out=held_out)
    drawn = zip(strokes, labels, strict=True)
    for scene, number in enumerate(wanted):
        for place in range(number):
            stroke, label = next(drawn)
            _paste(made, (scene, place), stroke, int(label), generator)
    made.images[:] += generator.normal(0, _NOISE, made.images.shape)
    return made


def patches(count: int, side: int, generator: np.random.Generator, *, held_out: bool) -> Array:
    """Patches of grey photographs at half their size, float32 (count, 1, side, side)."""
    sources = [photo[::2, ::2] for photo in luminance(held_out=held_out)]
    made = np.empty((count, 1, side, side), np.float32)
    for index in range(count):
        photo = sources[generator.integers(len(sources))]
        top, left = (generator.integers(size - side + 1) for size in photo.shape)
        patch = photo[top : top + side, left : left + side]
        made[index, 0] = patch[:, :: generator.choice((-1, 1))]
    return made


def _digits(
    count: int, sizes: tuple[int, ...], generator: np.random.Generator, *, held_out: bool
) -> tuple[list[Array], Array]:
    """Digits cut to their strokes, float32 (height, width) in [0, 1], and what they are."""
    data = mnist()
    inputs, labels = (
        (data.test_inputs, data.test_labels) if held_out else (data.train_inputs, data.train_labels)
    )
    chosen = generator.integers(len(inputs), size=count)
    of_size = generator.integers(len(sizes), size=count)
    cut: dict[int, Array] = {}
    for which, size in enumerate(sizes):
        places = np.flatnonzero(of_size == which)
        batch = torch.from_numpy(inputs[chosen[places]])
        small = functional.interpolate(batch, size, mode="bilinear", antialias=True)
        cut |= {int(i): _cut(digit) for i, digit in zip(places, small[:, 0].numpy(), strict=True)}
    return [cut[index] for index in range(count)], labels[chosen]


def _cut(digit: Array) -> Array:
    rows, columns = (np.flatnonzero((digit > _STROKE).any(axis)) for axis in (1, 0))
    if not len(rows):
        return digit
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paste(
    made: Scenes, slot: tuple[int, int], stroke: Array, label: int, generator: np.random.Generator
) -> None:
    """Put a digit where it hides no other; where there is no room, leave it out."""
    scene = slot[0]
    height, width = stroke.shape
    side = made.images.shape[-1]
    for _ in range(_TRIES):
        top, left = generator.integers(side - height + 1), generator.integers(side - width + 1)
        window = (slice(top, top + height), slice(left, left + width))
        if not made.classes[scene][window].any():
            break
    else:
        return
    image = made.images[scene, 0][window]
    image += stroke * (generator.uniform(0.75, 1.0) - image)
    made.classes[scene][window][stroke > _STROKE] = 1 + label
    made.boxes[slot] = left, top, left + width, top + height
    made.digits[slot] = label
