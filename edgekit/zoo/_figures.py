"""Stick figures on patches of photographs, and where their joints are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from edgekit.spec import Array
from edgekit.zoo._scenes import patches

__all__ = ["JOINTS", "SIDE", "figures"]

SIDE = 64
#: Left and right are those of the picture.
JOINTS = (
    "head", "neck", "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow",
    "right hand", "left hip", "left knee", "left foot", "right hip", "right knee", "right foot",
)  # fmt: skip
#: Drawn at so many times the size and made smaller, for soft edges.
_FINE = 4
_NOISE = 0.04


class _Bone(NamedTuple):
    """From one joint to the next: its length, and its angle and how far that may turn.

    Lengths are shares of the trunk's; an angle of 0 points to the right, of 90 degrees down.
    A bone whose ``of`` is a limb's first one turns with it.
    """

    joint: int
    of: int
    length: float
    angle: float
    turn: float


_BONES = (
    _Bone(0, 1, 0.35, -90, 20),
    _Bone(2, 1, 0.35, 165, 8), _Bone(3, 2, 0.55, 100, 80), _Bone(4, 3, 0.5, 0, 90),
    _Bone(5, 1, 0.35, 15, 8), _Bone(6, 5, 0.55, 80, 80), _Bone(7, 6, 0.5, 0, 90),
    _Bone(8, 1, 1.0, 103, 3), _Bone(9, 8, 0.65, 105, 35), _Bone(10, 9, 0.6, 0, 50),
    _Bone(11, 1, 1.0, 77, 3), _Bone(12, 11, 0.65, 75, 35), _Bone(13, 12, 0.6, 0, 50),
)  # fmt: skip
#: Bones that go on from where the one before them points.
_SECOND = frozenset({4, 7, 10, 13})
_LINES = (
    *((bone.of, bone.joint) for bone in _BONES if bone.joint not in {8, 11}),
    (2, 8), (5, 11), (8, 11),
)  # fmt: skip


def figures(count: int, seed: int, *, held_out: bool) -> dict[str, Array]:
    """So many figures, the same ones for the same arguments.

    ``image`` float32 (n, 1, 64, 64) about 0 to 1; ``joints`` float32 (n, 14, 2), x and y in
    pixels; ``trunk`` float32 (n), its length in pixels.
    """
    generator = np.random.default_rng([seed, held_out])
    image = patches(count, SIDE, generator, held_out=held_out) * 0.6
    joints = np.empty((count, len(JOINTS), 2), np.float32)
    trunk = np.empty(count, np.float32)
    for index in range(count):
        joints[index], trunk[index] = _pose(generator)
        ink = _drawn(joints[index], generator.uniform(1.5, 3))
        image[index, 0] += ink * (generator.uniform(0.7, 1.0) - image[index, 0])
    image += generator.normal(0, _NOISE, image.shape).astype(np.float32)
    return {"image": image, "joints": joints, "trunk": trunk}


def _pose(generator: np.random.Generator) -> tuple[Array, float]:
    """Joints within the picture, and the length of the trunk."""
    place = np.zeros((len(JOINTS), 2))
    angles = np.zeros(len(JOINTS))
    for bone in _BONES:
        base = angles[bone.of] if bone.joint in _SECOND else bone.angle
        angles[bone.joint] = base + generator.uniform(-bone.turn, bone.turn)
        angle = np.radians(angles[bone.joint])
        place[bone.joint] = place[bone.of] + bone.length * np.array([np.cos(angle), np.sin(angle)])
    lean = np.radians(generator.uniform(-25, 25))
    place @= np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    extent = np.ptp(place, axis=0)
    trunk = min(generator.uniform(16, 22), (SIDE - 10) / extent.max())
    room = SIDE - 8 - trunk * extent
    corner = 4 + room * generator.uniform(0, 1, 2)
    return (place - place.min(0)) * trunk + corner, trunk


def _drawn(joints: Array, width: float) -> Array:
    """How much of each pixel is ink, float32 (64, 64) in [0, 1]."""
    canvas = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    draw = ImageDraw.Draw(canvas)
    points = [(float(x), float(y)) for x, y in joints * _FINE]
    thick = round(width * _FINE)
    for start, end in _LINES:
        draw.line([points[start], points[end]], fill=255, width=thick)
    x, y = points[0]
    radius = 2.5 * _FINE
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    small = canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
