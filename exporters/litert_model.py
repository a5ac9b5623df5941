"""PyTorch to LiteRT, by its converter litert-torch."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.required import require_package, require_program

from edgekit.quiet import native_stderr, quiet
from edgekit.spec import to_rows

__all__ = ["LiteRtExporter"]


class LiteRtExporter:
    """Writes ``stem.tflite`` and ``stem.json``, the names and sizes of its tensors.

    The converter takes fixed sizes only. So a model is converted for one sample, and edgekit's
    runtime runs the samples of a batch one after the other; any other dynamic dimension has to
    have one size in ``ExportOptions.shapes``.
    """

    format: Format = "tflite"
    newest_opset = 21  # it reads no ONNX: this bounds the graph of no other runtime
    needs_gpu_target = False
    needs_program = True

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        require_package("litert_torch", "litert-torch", "litert-torch")
        traced = require_program(options, onnx_path, "litert", "LiteRT")
        with quiet(), native_stderr():  # the converter warns and logs about itself
            from edgekit.exporters.litert_conversion import converted, single  # imports torch

            from edgekit.programs import load_program

            named = load_program(traced)
            fixed, ranges = single(named, options.shapes)
            model = converted(fixed, onnx_path.name)
        made, specs = stem.with_suffix(".tflite"), stem.with_suffix(".json")
        made.write_bytes(model)
        specs.write_text(json.dumps([to_rows(named.inputs), to_rows(named.outputs), ranges]))
        return [made, specs]
