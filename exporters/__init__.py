"""From PyTorch to ONNX, and from ONNX to what each runtime loads, found through entry points."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points

from edgekit.exporters.base import Exporter, ExportOptions, ShapeRange

from edgekit.errors import RuntimeUnavailableError, nearest

__all__ = ["ExportOptions", "Exporter", "ShapeRange", "get", "names", "opset_for"]

_GROUP = "edgekit.exporters"


@cache
def names() -> tuple[str, ...]:
    """Names of the runtimes that artifacts can be built for, in alphabetical order."""
    return tuple(sorted({point.name for point in entry_points(group=_GROUP)}))


@cache
def get(runtime: str) -> Exporter:
    """The exporter for that runtime.

    Raises:
        RuntimeUnavailableError: there is none.
    """
    for point in entry_points(group=_GROUP, name=runtime):
        exporter: Exporter = point.load()()
        return exporter
    guess = nearest(runtime, names())
    hint = f", did you mean {guess!r}" if guess else ""
    raise RuntimeUnavailableError(
        f"unknown runtime {runtime!r}{hint}", fix=f"Choose from {', '.join(names())}"
    )


def opset_for(runtimes: Iterable[str]) -> int:
    """The newest ONNX operator set that all these runtimes read."""
    return min(get(name).newest_opset for name in runtimes)
