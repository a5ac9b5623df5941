"""ONNX Runtime loads ONNX files; its own fused operators make them faster."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from edgekit.exporters.attention import fuse_attention
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.onnxruntime_fusions import fuse_integer_products, keep_norms_apart
from onnx_ir.passes import common

__all__ = ["OnnxFileExporter"]


class OnnxFileExporter:
    """Writes ``stem.onnx`` with attention fused, which ONNX Runtime does not find by itself."""

    format: Format = "onnx"
    newest_opset = 21  # ONNX Runtime 1.20
    needs_gpu_target = False
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:  # noqa: ARG002
        path = stem.with_suffix(".onnx")
        model = ir.load(onnx_path)
        for fuse in (fuse_attention, fuse_integer_products, keep_norms_apart):
            fuse(model)
        common.RemoveUnusedNodesPass()(model)
        ir.save(model, path)
        return [path]
