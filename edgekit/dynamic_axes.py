"""Which dimensions are dynamic: told by two example calls of different sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import WorkloadError
from edgekit.spec import BATCH

__all__ = ["differing"]


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], where: str
) -> dict[str, dict[int, str]]:
    """The axes that differ, ``{input: {axis: dimension name}}``.

    Axes with the same two sizes are one dimension. That of axis 0 of the first input that has one
    is called ``batch``, any other one after the input and axis where it comes first: ``tokens_1``.

    Args:
        one: a call, by input name.
        other: the same call in another size.
        where: for the error.

    Raises:
        WorkloadError: the calls differ in more than sizes, or not at all.
    """
    if one.keys() != other.keys():
        raise _error(f"have {_listed(other)}, example_inputs have {_listed(one)}", where)
    names: dict[tuple[int, int], str] = {}
    axes: dict[str, dict[int, str]] = {}
    for name, value in one.items():
        mine, theirs = _shape(value), _shape(other[name])
        if len(mine) != len(theirs):
            raise _error(f"{name!r} has {len(theirs)} dimensions instead of {len(mine)}", where)
        kinds = [str(getattr(x, "dtype", type(x).__name__)) for x in (value, other[name])]
        if kinds[0].removeprefix("torch.") != kinds[1].removeprefix("torch."):
            raise _error(f"{name!r} has dtype {kinds[1]} instead of {kinds[0]}", where)
        axes[name] = {}
        for axis, sizes in enumerate(zip(mine, theirs, strict=True)):
            if sizes[0] != sizes[1]:
                free = axis == 0 and BATCH not in names.values()
                axes[name][axis] = names.setdefault(sizes, BATCH if free else f"{name}_{axis}")
    if not names:
        raise _error("have the sizes of example_inputs", where)
    return axes


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "nothing"


def _error(what: str, where: str) -> WorkloadError:
    return WorkloadError(
        what,
        where=f"{where}, other_inputs",
        fix="Give the same call with other sizes, or dynamic_shapes={} where nothing is dynamic",
    )
