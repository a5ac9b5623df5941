"""ONNX to OpenVINO IR (``.xml`` and ``.bin``), weights kept in their own precision."""

from __future__ import annotations

from pathlib import Path

from edgekit.exporters.base import ExportOptions, Format

from edgekit.errors import ExportError

__all__ = ["OpenVinoExporter"]


class OpenVinoExporter:
    """Writes ``stem.xml`` and ``stem.bin``; Q/DQ pairs become low-precision operators."""

    format: Format = "openvino-ir"
    newest_opset = 21  # OpenVINO 2025.0
    needs_gpu_target = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:  # noqa: ARG002
        try:
            import openvino as ov  # heavy and optional
        except ImportError as error:
            raise ExportError(
                "openvino is not installed", fix="Run: pip install 'edgekit[openvino]'"
            ) from error
        path = stem.with_suffix(".xml")
        try:
            ov.save_model(ov.convert_model(onnx_path), path, compress_to_fp16=False)
        except Exception as error:  # the frontend raises bare RuntimeError and its own types
            raise ExportError(
                f"OpenVINO cannot convert the graph: {' '.join(str(error).split())[:300]}",
                where=onnx_path.name,
                fix="Leave openvino out with --runtime, or rewrite the operator it names",
            ) from error
        return [path, path.with_suffix(".bin")]
