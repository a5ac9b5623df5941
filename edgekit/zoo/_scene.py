"""A small three-dimensional scene with its photographs: what the neural fields learn.

Three shiny balls on a chequered round floor before white, lit by one lamp with hard shadows. A ray
tracer gives the exact colour of every ray, so views that no model has seen are known too. A ray is
``x, y, z`` of its origin and of its direction, which has length 1: arrays (n, 6), float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from edgekit.spec import Array

__all__ = [
    "HELD_OUT", "PATCH", "PIXEL", "SIZE", "TRAINED", "Pose", "psnr", "rays_of", "tinted", "trace",
    "view", "wild_view",
]  # fmt: skip

#: Pixels along a side of a view.
SIZE = 40
#: Half the width of a view at distance 1 of the camera, which stands 3 from the middle.
_HALF, _DISTANCE = 0.5, 3.0
#: The width of a pixel at distance 1.
PIXEL = 2 * _HALF / SIZE
#: Rays along a side of a pixel.
_SUPERSAMPLED = 4
#: Pixels along a side of what stands before the scene in the wild, and its stripes.
PATCH, _STRIPES = 10, 5

_CENTRES = np.array([[0.0, 0.0, 0.1], [0.62, -0.35, -0.2], [-0.45, 0.55, -0.25]])
_RADII = np.array([0.5, 0.2, 0.25])
_COLOURS = np.array([[0.85, 0.2, 0.2], [0.2, 0.65, 0.3], [0.2, 0.35, 0.85]])
_FLOOR_HEIGHT, _FLOOR_RADIUS, _TILE = -0.5, 1.0, 0.5
_FLOOR_COLOURS = np.array([[0.85, 0.8, 0.6], [0.35, 0.3, 0.45]])
_LAMP = np.array([0.48, 0.36, 0.8])
_NONE, _FLOOR = -1, len(_RADII)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a camera stands that looks at the middle: degrees around, and above the ground."""

    azimuth: float
    elevation: float


#: Spread evenly; each held-out pose is at least 13 degrees from the nearest of them.
TRAINED = tuple(Pose(205.1423 * i % 360, 15 + 45 * (0.754878 * i % 1)) for i in range(48))
HELD_OUT = (Pose(118.0, 25.0), Pose(10.0, 40.0), Pose(270.0, 50.0))


def rays_of(pose: Pose, size: int = SIZE) -> Array:
    """One ray through the middle of each pixel, row by row: (size * size, 6)."""
    around, above = np.radians([pose.azimuth, pose.elevation])
    back = np.array([np.cos(around) * np.cos(above), np.sin(around) * np.cos(above), np.sin(above)])
    right = np.array([-np.sin(around), np.cos(around), 0.0])
    steps = ((np.arange(size) + 0.5) / size * 2 - 1) * _HALF
    x, y = np.meshgrid(steps, -steps)
    directions = x[..., None] * right + y[..., None] * np.cross(back, right) - back
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(_DISTANCE * back, directions.shape)
    return np.concatenate([origins, directions], -1).reshape(-1, 6).astype(np.float32)


@cache
def view(pose: Pose) -> Array:
    """A photograph, (SIZE * SIZE, 3): each pixel is the mean of what falls on it."""
    fine = trace(rays_of(pose, SIZE * _SUPERSAMPLED))
    pixels = fine.reshape(SIZE, _SUPERSAMPLED, SIZE, _SUPERSAMPLED, 3).mean((1, 3))
    colours: Array = pixels.reshape(-1, 3)
    return colours


def trace(rays: Array) -> Array:
    """What each ray (n, 6) sees: red, green and blue in [0, 1], (n, 3) float32."""
    origins, directions = rays[:, :3].astype(np.float64), rays[:, 3:].astype(np.float64)
    distance, thing = _hit(origins, directions)
    points = origins + np.where(thing == _NONE, 0.0, distance)[:, None] * directions
    colours, normals = _surface(points, thing)
    lit = np.clip(normals @ _LAMP, 0, None)
    lit *= _hit(points + 1e-4 * normals, np.broadcast_to(_LAMP, points.shape))[1] == _NONE
    mirrored = directions - 2 * (directions * normals).sum(1, keepdims=True) * normals
    shine = np.where((lit > 0) & (thing != _FLOOR), np.clip(mirrored @ _LAMP, 0, 1) ** 12, 0.0)
    seen = colours * (0.35 + 0.65 * lit[:, None]) + 0.35 * shine[:, None]
    return np.where(thing[:, None] == _NONE, 1.0, np.clip(seen, 0, 1)).astype(np.float32)


def _hit(origins: Array, directions: Array) -> tuple[Array, Array]:
    """The distance to the nearest thing along each ray, and which it is: a ball's index,
    ``_FLOOR``, or ``_NONE``.
    """
    offset = origins[:, None] - _CENTRES
    along = (offset * directions[:, None]).sum(-1)
    inside = along**2 - (offset**2).sum(-1) + _RADII**2
    balls = np.where(inside > 0, -along - np.sqrt(np.clip(inside, 0, None)), np.inf)
    down = directions[:, 2:]
    down = np.where(np.abs(down) < 1e-9, 1e-9, down)
    floor = (_FLOOR_HEIGHT - origins[:, 2:]) / down
    place = origins[:, :2] + floor * directions[:, :2]
    floor = np.where((place**2).sum(-1, keepdims=True) < _FLOOR_RADIUS**2, floor, np.inf)
    every = np.concatenate([balls, floor], 1)
    every = np.where(every > 1e-6, every, np.inf)
    nearest = every.argmin(1)
    distance = every.min(1)
    return distance, np.where(np.isinf(distance), _NONE, nearest)


def _surface(points: Array, thing: Array) -> tuple[Array, Array]:
    """The colour and the normal at each point."""
    ball = np.clip(thing, 0, _FLOOR - 1)
    tile = np.floor(points[:, :2] / _TILE).sum(1).astype(int) % 2
    floor = (thing == _FLOOR)[:, None]
    colours = np.where(floor, _FLOOR_COLOURS[tile], _COLOURS[ball])
    round_ = (points - _CENTRES[ball]) / _RADII[ball][:, None]
    return colours, np.where(floor, [0.0, 0.0, 1.0], round_)


def psnr(predicted: Array, true: Array) -> float:
    """Peak signal to noise ratio of colours in [0, 1], in dB."""
    return float(-10 * np.log10(((predicted - true) ** 2).mean()))


def tinted(colours: Array, image: int) -> Array:
    """Colours (n, 3) in the light of a training image: a factor and a shift of each channel."""
    drawn = np.random.default_rng([0, image])
    factor, shift = drawn.uniform(0.7, 1.0, 3), drawn.uniform(-0.05, 0.1, 3)
    return np.clip(colours * factor + shift, 0, 1).astype(np.float32)


def wild_view(image: int) -> Array:
    """A training view in a light of its own, with a striped patch before it: (n, 3)."""
    drawn = np.random.default_rng([1, image])
    shown = tinted(view(TRAINED[image]), image).reshape(SIZE, SIZE, 3)
    row, column = drawn.integers(4, SIZE - PATCH - 4, 2)
    stripes = drawn.random((_STRIPES, 3), np.float32).repeat(PATCH // _STRIPES, 0)
    shown[row : row + PATCH, column : column + PATCH] = stripes
    return shown.reshape(-1, 3)
