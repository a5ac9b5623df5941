"""What PyTorch traced, for PyTorch itself: the reference beside the other engines."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.required import require_program

__all__ = ["TorchProgramExporter"]


class TorchProgramExporter:
    """Writes ``stem.pt2``, the program that the ONNX graph was made from."""

    format: Format = "torch-program"
    newest_opset = 21  # it reads no ONNX: this bounds the graph of no other runtime
    needs_gpu_target = False
    needs_program = True

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        program = require_program(options, onnx_path, "torch", "PyTorch")
        return [Path(shutil.copyfile(program, stem.with_suffix(".pt2")))]
