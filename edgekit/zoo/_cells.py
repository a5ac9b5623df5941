"""Pictures of fluorescent cells, generated as the field's own benchmark was.

That is VGG Cells (Lempitsky and Zisserman, 2010): cells of several sizes and of uneven brightness,
half of them in clusters, out-of-focus blur, uneven light behind them, and noise.
"""

from __future__ import annotations

import numpy as np
from skimage.filters import gaussian

from edgekit.spec import Array

__all__ = ["SIDE", "pictures"]

SIDE = 64
_LEAST, _MOST = 10, 60
#: In the density, a cell is a bump of about this many pixels.
_SPREAD = 2.0
#: From its middle to the border of the window that a cell is drawn into.
_REACH = 7


def pictures(count: int, seed: int) -> dict[str, Array]:
    """So many pictures, the same ones for the same seed.

    ``image`` float32 (n, 1, 64, 64); ``density`` the same, whose sum is ``count`` float32 (n).
    """
    generator = np.random.default_rng(seed)
    made = [_picture(generator) for _ in range(count)]
    image, density = (np.stack(one)[:, None].astype(np.float32) for one in zip(*made, strict=True))
    return {"image": image, "density": density, "count": density.sum((1, 2, 3))}


def _picture(generator: np.random.Generator) -> tuple[Array, Array]:
    number = generator.integers(_LEAST, _MOST + 1)
    clusters = generator.uniform(6, SIDE - 6, (generator.integers(3, 8), 2))
    place = clusters[generator.integers(len(clusters), size=number)]
    place = np.where(
        generator.random((number, 1)) < 0.5,
        place + generator.normal(0, 6, (number, 2)),
        generator.uniform(0, SIDE, (number, 2)),
    ).clip(2, SIDE - 3)
    density = np.zeros((SIDE, SIDE))
    np.add.at(density, tuple(place.round().astype(int).T), 1.0)
    light = _blurred(generator.normal(0, 1, (SIDE, SIDE)), 16) * 3 + 0.1
    glow = np.minimum(_glow(place, generator), 1.5)
    image = _blurred(glow, generator.uniform(0.5, 1.0)) + light
    image += generator.normal(0, 0.08, image.shape)
    return image, _blurred(density, _SPREAD)


def _blurred(values: Array, spread: float) -> Array:
    return np.asarray(gaussian(values, spread, mode="reflect"))


def _glow(place: Array, generator: np.random.Generator) -> Array:
    """The light of elliptic cells, each drawn into the window around it."""
    number = len(place)
    rows, columns = place.round().astype(int).T[:, :, None] + np.arange(2 * _REACH + 1)
    y = (rows - _REACH - place[:, :1])[:, :, None]
    x = (columns - _REACH - place[:, 1:])[:, None]
    long, thin = generator.uniform(1.8, 3.2, (2, number, 1, 1))
    angle = generator.uniform(0, np.pi, (number, 1, 1))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bodies = 1 / (1 + np.exp(6 * (np.hypot(along / long, across / thin) - 1)))
    canvas = np.zeros((SIDE + 2 * _REACH, SIDE + 2 * _REACH))
    light = bodies * generator.uniform(0.4, 1.0, (number, 1, 1))
    np.add.at(canvas, (rows[:, :, None], columns[:, None]), light)
    return canvas[_REACH:-_REACH, _REACH:-_REACH]
