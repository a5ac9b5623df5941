"""What ONNX Runtime makes of a model when it loads it, kept for the next load."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
from edgekit.runtimes.kept import KeptFile

__all__ = ["OptimizedModel"]


class OptimizedModel(KeptFile):
    """The optimized graph.

    Args:
        artifact: a file that holds its weights.
        cache: an existing folder that can be written.
    """

    def __init__(self, artifact: Path, cache: Path) -> None:
        super().__init__([artifact], cache, "onnxruntime", ort.__version__, ".onnx")
        self._source = artifact

    def prepare(self, settings: ort.SessionOptions) -> str:
        """The file to load with ``settings``, which are changed so that it is kept or reused."""
        if self.path.is_file():
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            return str(self.path)
        settings.optimized_model_filepath = str(self.partial)
        return str(self._source)
