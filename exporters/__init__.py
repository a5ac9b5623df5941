"""From PyTorch to ONNX, and from ONNX to what each runtime loads, found through entry points."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.exporters.base import Exporter, ExportOptions, ShapeRange

from edgekit import registry

__all__ = ["ExportOptions", "Exporter", "ShapeRange", "get", "names", "opset_for"]

_GROUP = "edgekit.exporters"


def names() -> tuple[str, ...]:
    """Names of the runtimes that artifacts can be built for, in alphabetical order."""
    return registry.names(_GROUP)


def get(runtime: str) -> Exporter:
    """The exporter for that runtime.

    Raises:
        RuntimeUnavailableError: there is none.
    """
    exporter: Exporter = registry.find(_GROUP, runtime)
    return exporter


def opset_for(runtimes: Iterable[str]) -> int:
    """The newest ONNX operator set that all these runtimes read."""
    return min(get(name).newest_opset for name in runtimes)
