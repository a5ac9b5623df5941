"""PyTorch to ExecuTorch, by its own lowering."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.required import require_package, require_program

from edgekit.quiet import quiet
from edgekit.spec import to_rows

__all__ = ["ExecuTorchExporter"]


class ExecuTorchExporter:
    """Writes ``stem.pte`` and ``stem.json``, the names and sizes of its tensors.

    XNNPACK computes what it can, ExecuTorch's portable kernels the rest, all in the types of the
    PyTorch model. Memory is planned for the largest sizes of ``ExportOptions.shapes``: the artifact
    takes no larger ones.
    """

    format: Format = "executorch"
    newest_opset = 21  # it reads no ONNX: this bounds the graph of no other runtime
    needs_gpu_target = False
    needs_program = True

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        require_package("executorch", "executorch", "executorch")
        traced = require_program(options, onnx_path, "executorch", "ExecuTorch")
        with quiet():  # ExecuTorch warns and logs about itself when it is imported
            from edgekit.exporters.bounded import bounded  # imports torch: heavy
            from edgekit.exporters.executorch_lowering import lowered

            from edgekit.programs import load_program

        named = load_program(traced)
        program, ranges = bounded(named, options.shapes)
        lower = lowered(program, onnx_path.name)
        made, specs = stem.with_suffix(".pte"), stem.with_suffix(".json")
        with made.open("wb") as file:
            lower.write_to_file(file)
        specs.write_text(json.dumps([to_rows(named.inputs), to_rows(named.outputs), ranges]))
        return [made, specs]
