"""Colour photographs that ship inside scikit-image and scikit-learn."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

from edgekit.spec import Array

__all__ = ["luminance", "photos"]

_SHIPPED = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
#: Of red, green and blue in luminance, ITU-R BT.601.
_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def photos() -> list[Array]:
    """Seven photographs, uint8 of shape (height, width, 3), sorted by name.

    By agreement every other one, from the second on, is held out.
    """
    folder = Path(skimage.data.__file__).parent
    found = {name: np.asarray(Image.open(folder / name).convert("RGB")) for name in _SHIPPED}
    found |= {name: load_sample_image(name) for name in ("china.jpg", "flower.jpg")}
    return [found[name] for name in sorted(found)]


@cache
def luminance(*, held_out: bool) -> tuple[Array, ...]:
    """The grey photographs to train on or those held out, float32 (height, width) in [0, 1]."""
    return tuple(photo @ _WEIGHTS / np.float32(255) for photo in photos()[int(held_out) :: 2])
