"""Feeds of another size: how long a sentence, how large an image is timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.errors import SpecError, nearest
from edgekit.spec import Feeds

__all__ = ["dimensions", "parse_sizes", "require_dimensions", "resized"]


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Sizes by dimension from ``NAME=SIZE`` each.

    Raises:
        SpecError: one is not of that form, or its size is less than 1.
    """
    sizes = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise SpecError(
                f"{text!r} is no size of a dimension", where="--size", fix="Write sequence=128, say"
            )
        sizes[name] = int(size)
    return sizes


def dimensions(axes: Mapping[str, Mapping[int, str]]) -> set[str]:
    """The names of all dynamic dimensions."""
    return {name for named in axes.values() for name in named.values()}


def require_dimensions(
    axes: Mapping[str, Mapping[int, str]], sizes: Mapping[str, object], option: str = "--size"
) -> None:
    """See that every size is of a dimension that there is.

    Args:
        axes: ``{input: {axis: dimension name}}``, the dynamic ones.
        sizes: by dimension name.
        option: that the sizes were given with.

    Raises:
        SpecError: no dynamic dimension has that name.
    """
    known = sorted(dimensions(axes))
    for name in sizes:
        if name not in known:
            near = nearest(name, known)
            raise SpecError(
                f"no input has a dynamic dimension {name!r}"
                + (f", did you mean {near!r}?" if near else ""),
                where=option,
                fix=f"The dynamic dimensions are {', '.join(known) or 'none'}",
            )


def resized(feeds: Feeds, axes: Mapping[str, Mapping[int, str]], sizes: Mapping[str, int]) -> Feeds:
    """Feeds with dynamic dimensions of those sizes: values are repeated in order, or cut off.

    Args:
        feeds: the inputs of one call.
        axes: ``{input: {axis: dimension name}}``, the dynamic ones.
        sizes: by dimension name; the others stay.

    Raises:
        SpecError: no dynamic dimension has that name.
    """
    require_dimensions(axes, sizes)
    made = dict(feeds)
    for name, named in axes.items():
        for axis, dimension in named.items():
            if dimension in sizes:
                indices = np.arange(sizes[dimension])
                made[name] = np.take(made[name], indices, axis=axis, mode="wrap")
    return made
