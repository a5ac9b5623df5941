"""Inference engines behind one :class:`Session` interface, found through entry points."""

from __future__ import annotations

from edgekit.runtimes.base import Layer, Runtime, RuntimeStatus, Session, SessionOptions, given_name
from edgekit.runtimes.stateful import StatefulSession

from edgekit import registry
from edgekit.errors import RuntimeUnavailableError

__all__ = [
    "Layer",
    "Runtime",
    "RuntimeStatus",
    "Session",
    "SessionOptions",
    "StatefulSession",
    "get",
    "given_name",
    "names",
    "require",
]

_GROUP = "edgekit.runtimes"


def names() -> tuple[str, ...]:
    """Names of all registered runtimes, usable or not, in alphabetical order."""
    return registry.names(_GROUP)


def get(name: str) -> Runtime:
    """The registered runtime of that name.

    Raises:
        RuntimeUnavailableError: no runtime of that name is registered.
    """
    runtime: Runtime = registry.find(_GROUP, name)
    return runtime


def require(name: str) -> Runtime:
    """The runtime of that name, checked to be usable on this machine.

    Raises:
        RuntimeUnavailableError: unknown, or not usable here; tells how to install it.
    """
    runtime = get(name)
    status = runtime.status()
    if not status.usable:
        fix = f"Run: {status.install}" if status.install else "Choose another runtime or machine"
        raise RuntimeUnavailableError(status.reason, where=f"runtime {name}", fix=fix)
    return runtime
