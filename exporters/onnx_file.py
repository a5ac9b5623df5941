"""ONNX Runtime loads the ONNX file as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.exporters.base import ExportOptions, Format

__all__ = ["OnnxFileExporter"]


class OnnxFileExporter:
    """Copies the graph to ``stem.onnx``."""

    format: Format = "onnx"
    newest_opset = 21  # ONNX Runtime 1.20
    needs_gpu_target = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:  # noqa: ARG002
        path = stem.with_suffix(".onnx")
        shutil.copyfile(onnx_path, path)
        return [path]
