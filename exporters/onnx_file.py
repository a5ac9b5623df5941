"""ONNX Runtime loads ONNX files; its own fused operators make them faster."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.passes.attention import fuse_attention
from edgekit.exporters.passes.base import Rewrite, rewrite
from edgekit.exporters.passes.onnxruntime_fusions import fuse_integer_products, keep_norms_apart
from edgekit.exporters.save import save_onnx
from onnx_ir.passes import common

__all__ = ["OnnxFileExporter"]

_PASSES: tuple[ir.passes.PassBase, ...] = (
    Rewrite("fuse-attention", fuse_attention),
    Rewrite("fuse-integer-products", fuse_integer_products),
    Rewrite("keep-norms-apart", keep_norms_apart),
    common.RemoveUnusedNodesPass(),
)


class OnnxFileExporter:
    """Writes ``stem.onnx`` with attention fused, which ONNX Runtime does not find by itself."""

    format: Format = "onnx"
    newest_opset = 21  # ONNX Runtime 1.20
    needs_gpu_target = False
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        path = stem.with_suffix(".onnx")
        return save_onnx(rewrite(ir.load(onnx_path), _PASSES, options.told), path)
