"""Parts that packages register through entry points: runtimes, exporters, passes."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from edgekit.errors import RuntimeUnavailableError, did_you_mean

__all__ = ["find", "names"]


@cache
def names(group: str) -> tuple[str, ...]:
    """Names registered in an entry-point group, in alphabetical order."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


@cache
def find(group: str, runtime: str) -> Any:
    """What is registered in ``group`` for ``runtime``: one instance a process.

    Raises:
        RuntimeUnavailableError: nothing is; names the nearest that is.
    """
    for point in entry_points(group=group, name=runtime):
        return point.load()()
    hint = did_you_mean(runtime, names(group))
    raise RuntimeUnavailableError(
        f"unknown runtime {runtime!r}{hint}", fix=f"Choose from {', '.join(names(group))}"
    )
