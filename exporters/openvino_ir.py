"""ONNX to OpenVINO IR (``.xml`` and ``.bin``), weights kept in their own precision."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.graph import INFERENCE_PRECISION

from edgekit.errors import ExportError

__all__ = ["OpenVinoExporter"]


class OpenVinoExporter:
    """Writes ``stem.xml`` and ``stem.bin``; Q/DQ pairs become low-precision operators.

    A graph that asks for half precision (see :data:`~.graph.INFERENCE_PRECISION`) gets fp16 weights
    and the wish in its ``rt_info``, where edgekit's OpenVINO runtime finds it.
    """

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
            model = ov.convert_model(onnx_path)
            half = ir.load(onnx_path).metadata_props.get(INFERENCE_PRECISION)
            if half is not None:
                model.set_rt_info(half, ["edgekit", "inference_precision"])
            ov.save_model(model, path, compress_to_fp16=half is not None)
        except Exception as error:  # the frontend raises bare RuntimeError and its own types
            raise ExportError(
                f"OpenVINO cannot convert the graph: {' '.join(str(error).split())[:300]}",
                where=onnx_path.name,
                fix="Leave openvino out with --runtime, or rewrite the operator it names",
            ) from error
        return [path, path.with_suffix(".bin")]
