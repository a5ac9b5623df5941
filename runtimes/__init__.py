"""Inference engines behind one :class:`Session` interface, found through entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from edgekit.runtimes.base import Runtime, RuntimeStatus, Session, SessionOptions

from edgekit.errors import RuntimeUnavailableError, nearest

__all__ = ["Runtime", "RuntimeStatus", "Session", "SessionOptions", "get", "names", "require"]

_GROUP = "edgekit.runtimes"


@cache
def names() -> tuple[str, ...]:
    """Names of all registered runtimes, usable or not, in alphabetical order."""
    return tuple(sorted({point.name for point in entry_points(group=_GROUP)}))


@cache
def get(name: str) -> Runtime:
    """The registered runtime of that name.

    Raises:
        RuntimeUnavailableError: no runtime of that name is registered.
    """
    for point in entry_points(group=_GROUP, name=name):
        runtime: Runtime = point.load()()
        return runtime
    guess = nearest(name, names())
    hint = f", did you mean {guess!r}" if guess else ""
    raise RuntimeUnavailableError(
        f"unknown runtime {name!r}{hint}", fix=f"Choose from {', '.join(names())}"
    )


def require(name: str) -> Runtime:
    """The runtime of that name, checked to be usable on this machine.

    Raises:
        RuntimeUnavailableError: unknown, or not usable here; tells how to install it.
    """
    runtime = get(name)
    status = runtime.status()
    if not status.usable:
        raise RuntimeUnavailableError(
            status.reason, where=f"runtime {name}", fix=f"Run: {status.install}"
        )
    return runtime
