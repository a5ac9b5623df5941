"""Inputs unlike the calibration data, which a deployed model meets one day."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from edgekit.profile.sizes import dimensions, resized
from edgekit.spec import BATCH, Array, Feeds, is_float

__all__ = ["VALUES", "extreme_inputs"]

#: The largest batch, and how many times the longest seen another dynamic dimension becomes.
_BATCH, _LONGER = 8, 2
#: So many times the largest value in the data is large.
_LARGE = 100.0
#: Below the smallest normal float32: some engines compute with 0 instead.
_DENORMAL = 1e-40

#: What a floating-point input is replaced by. Integers are indices or masks and stay.
VALUES: Mapping[str, Callable[[Array], Array]] = {
    "random": lambda x: np.random.default_rng(0).normal(x.mean(), x.std() + 1e-6, x.shape),
    "zeros": np.zeros_like,
    "large": lambda x: x * _LARGE,
    "denormal": lambda x: np.full(x.shape, _DENORMAL),
}


def extreme_inputs(
    sample: Feeds,
    axes: Mapping[str, Mapping[int, str]],
    may_be_empty: Collection[str] = (),
) -> dict[str, Feeds]:
    """Other values and other sizes of one sample of the data, by what they are.

    ``random``, ``zeros``, ``large`` and ``denormal`` have other values where the model takes
    floating-point numbers. ``batch 1``, ``batch 8``, and for each other dynamic dimension
    ``NAME 1`` (or ``NAME 0``) and ``NAME`` with twice its size have the same values, repeated or
    cut off.

    Args:
        sample: the inputs of one call.
        axes: ``{input: {axis: dimension name}}``, the dynamic ones.
        may_be_empty: names of dimensions whose least size is 0, such as the length of a cache.
    """
    made: dict[str, Feeds] = {}
    if any(is_float(array.dtype) for array in sample.values()):
        for name, change in VALUES.items():
            made[name] = {
                key: change(array).astype(array.dtype) if is_float(array.dtype) else array
                for key, array in sample.items()
            }
    for dimension in sorted(dimensions(axes)):
        longest = _BATCH if dimension == BATCH else _LONGER * _size(sample, axes, dimension)
        for size in (0 if dimension in may_be_empty else 1, longest):
            made[f"{dimension} {size}"] = resized(sample, axes, {dimension: size})
    return made


def _size(sample: Feeds, axes: Mapping[str, Mapping[int, str]], dimension: str) -> int:
    sizes: list[int] = [
        sample[name].shape[axis]
        for name, named in axes.items()
        for axis, label in named.items()
        if label == dimension
    ]
    return max(sizes)
