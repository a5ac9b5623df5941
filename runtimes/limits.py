"""The sizes that an artifact was built for, where its engine takes no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from edgekit.errors import OutOfRangeError
from edgekit.spec import Feeds, TensorSpec

__all__ = ["Limits", "Shape", "check_limits", "limits_of"]

Shape: TypeAlias = tuple[int, ...]

#: By the name of an input, the smallest and the largest size of each of its axes.
Limits: TypeAlias = Mapping[str, tuple[Shape, Shape]]


def limits_of(specs: Iterable[TensorSpec], ranges: Mapping[str, Sequence[int]]) -> Limits:
    """The limits of inputs whose dynamic dimensions have a smallest and a largest size."""
    least, most = ({dim: sizes[i] for dim, sizes in ranges.items()} for i in range(2))
    return {
        spec.name: (spec.concrete(least), spec.concrete(most)) for spec in specs if spec.dynamic
    }


def check_limits(limits: Limits, feeds: Feeds) -> None:
    """Refuse inputs of sizes that the engine was not built for.

    Raises:
        OutOfRangeError: an axis of an input lies outside.
    """
    for name, (least, most) in limits.items():
        for axis, (size, low, high) in enumerate(zip(feeds[name].shape, least, most, strict=True)):
            if not low <= size <= high:
                raise OutOfRangeError(
                    f"axis {axis} is {size}, the engine takes {low} to {high}",
                    where=f"tensor {name!r}",
                    fix="Build the engine with a --range that holds it",
                )
