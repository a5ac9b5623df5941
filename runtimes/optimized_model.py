"""What ONNX Runtime makes of a model when it loads it, kept for the next load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from edgekit.runtimes.kept import KeptFile

__all__ = ["OptimizedModel"]


class OptimizedModel(KeptFile):
    """The optimized graph.

    Args:
        sources: the artifact, and the files beside it that hold its weights.
        cache: an existing folder that can be written.
    """

    def __init__(self, sources: Sequence[Path], cache: Path) -> None:
        super().__init__(sources, cache, "onnxruntime", ort.__version__, ".onnx")
        self._source = sources[0]

    def prepare(self, settings: ort.SessionOptions) -> str:
        """The file to load with ``settings``, which are changed so that it is kept or reused."""
        if self.path.is_file():
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            return str(self.path)
        settings.optimized_model_filepath = str(self.partial)
        return str(self._source)
