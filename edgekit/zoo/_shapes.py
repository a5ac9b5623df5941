"""Clouds of points on the surfaces of solids, turned about the vertical."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from edgekit.spec import Array

__all__ = ["SHAPES", "clouds"]

_NOISE = 0.03
_Draw = Callable[[np.random.Generator, int], Array]


def clouds(count: int, points: int, seed: int) -> tuple[Array, Array]:
    """So many clouds, float32 (n, points, 3), and which shape each is, int64 (n).

    Each has random proportions, turns about z at random, and has noise; it is moved to its centre
    and scaled into the unit sphere, as in PointNet's paper.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(len(SHAPES), size=count)
    draws = tuple(SHAPES.values())
    made = np.stack([_cloud(draws[label], points, generator) for label in labels])
    return made.astype(np.float32), labels


def _cloud(draw: _Draw, points: int, generator: np.random.Generator) -> Array:
    cloud = draw(generator, points) * generator.uniform(0.6, 1.4, 3)
    turn = generator.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    cloud = cloud @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    cloud = cloud - cloud.mean(0)
    cloud = cloud / np.linalg.norm(cloud, axis=1).max()
    noisy: Array = cloud + generator.normal(0, _NOISE, cloud.shape)
    return noisy


def _sphere(generator: np.random.Generator, points: int) -> Array:
    cloud = generator.normal(size=(points, 3))
    return np.asarray(cloud / np.linalg.norm(cloud, axis=1, keepdims=True))


def _box(generator: np.random.Generator, points: int) -> Array:
    cloud = generator.uniform(-1, 1, (points, 3))
    cloud[np.arange(points), generator.integers(3, size=points)] = generator.choice((-1, 1), points)
    return cloud


def _around(generator: np.random.Generator, radius: Array, height: Array) -> Array:
    """Points around the vertical, at those distances and heights."""
    angle = generator.uniform(0, 2 * np.pi, len(radius))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)


def _cylinder(generator: np.random.Generator, points: int) -> Array:
    lid = generator.random(points) < 1 / 3
    radius = np.where(lid, np.sqrt(generator.random(points)), 1.0)
    height = generator.uniform(-1, 1, points)
    return _around(generator, radius, np.where(lid, np.sign(height), height))


def _cone(generator: np.random.Generator, points: int) -> Array:
    radius = np.sqrt(generator.random(points))
    base = generator.random(points) < 0.3
    return _around(generator, radius, np.where(base, -1.0, 1 - 2 * radius))


def _torus(generator: np.random.Generator, points: int) -> Array:
    angle = generator.uniform(0, 2 * np.pi, points)
    thick = generator.uniform(0.25, 0.45)
    return _around(generator, 1 + thick * np.cos(angle), thick * np.sin(angle))


def _capsule(generator: np.random.Generator, points: int) -> Array:
    cloud = _sphere(generator, points)
    side = generator.random(points) < 0.5
    round_ = cloud + np.sign(cloud[:, 2:]) * (0, 0, 1)
    straight = _around(generator, np.ones(points), generator.uniform(-1, 1, points))
    return np.where(side[:, None], straight, round_)


def _flat_sided(generator: np.random.Generator, corners: Array, faces: Array, points: int) -> Array:
    """Points on triangles of about the same size."""
    a, b, c = corners[faces[generator.integers(len(faces), size=points)]].transpose(1, 0, 2)
    u, v = np.sort(generator.random((2, points, 1)), axis=0)
    return np.asarray(a * u + b * (v - u) + c * (1 - v))


_SQUARE = np.array([(-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1), (0, 0, 1), (0, 0, -3.0)])
_ROOF = np.array([(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)])
_FLOOR = np.array([(0, 1, 2), (0, 2, 3)])


def _pyramid(generator: np.random.Generator, points: int) -> Array:
    return _flat_sided(generator, _SQUARE, np.concatenate([_ROOF, _FLOOR]), points)


def _octahedron(generator: np.random.Generator, points: int) -> Array:
    below = np.where(_ROOF == 4, 5, _ROOF)
    return _flat_sided(generator, _SQUARE, np.concatenate([_ROOF, below]), points)


def _helix(generator: np.random.Generator, points: int) -> Array:
    along = generator.uniform(-1, 1, points)
    angle = along * np.pi * generator.uniform(1.8, 2.6)
    return np.stack([np.cos(angle), np.sin(angle), along], 1)


def _cross(generator: np.random.Generator, points: int) -> Array:
    """Two long boxes, one through the other."""
    cloud = _box(generator, points) * (1, 0.3, 0.3)
    upright = generator.random(points) < 0.5
    return np.where(upright[:, None], cloud[:, ::-1], cloud)


SHAPES: MappingProxyType[str, _Draw] = MappingProxyType({
    "sphere": _sphere, "box": _box, "cylinder": _cylinder, "cone": _cone, "torus": _torus,
    "capsule": _capsule, "pyramid": _pyramid, "octahedron": _octahedron, "helix": _helix,
    "cross": _cross,
})  # fmt: skip
