"""What an exporter needs beside the graph, and what is told where it is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgekit.exporters.base import ExportOptions

from edgekit.errors import ExportError

__all__ = ["require_package", "require_program"]


def require_package(module: str, package: str, extra: str) -> None:
    """See that a converter is installed, without importing it.

    Raises:
        ExportError: it is not.
    """
    if importlib.util.find_spec(module) is None:
        fix = f"Run: pip install 'edgekit[{extra}]'"
        raise ExportError(f"{package} is not installed", fix=fix)


def require_program(options: ExportOptions, onnx_path: Path, runtime: str, engine: str) -> Path:
    """What PyTorch traced, for an engine that is not built from the ONNX file.

    Raises:
        ExportError: the model never was one of PyTorch.
    """
    if options.program is None:
        raise ExportError(
            f"{engine} cannot read an ONNX file",
            where=onnx_path.name,
            fix=f"Leave {runtime} out with --runtime, or give the PyTorch model itself",
        )
    return options.program
