"""What ONNX Runtime makes of a model when it loads it, kept for the next load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from edgekit.runtimes.kept import KeptFile

__all__ = ["OptimizedModel"]

_FOLDER = "session.model_external_initializers_file_folder_path"


class OptimizedModel(KeptFile):
    """The optimized graph.

    Args:
        artifact: the ONNX file.
        weights: the files beside it that hold weights of it. What the optimizer leaves of these
            as it is stays there.
        cache: an existing folder that can be written.
    """

    def __init__(self, artifact: Path, weights: Sequence[Path], cache: Path) -> None:
        super().__init__([artifact, *weights], cache, "onnxruntime", ort.__version__, ".onnx")
        self._source = artifact
        self._beside = bool(weights)

    def prepare(self, settings: ort.SessionOptions) -> str | bytes:
        """What to load with ``settings``, which are changed so that it is kept or reused."""
        if not self.path.is_file():
            settings.optimized_model_filepath = str(self.partial)
            return str(self._source)
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not self._beside:
            return str(self.path)
        # Weights are looked for beside the file that is loaded, unless it comes from memory.
        settings.add_session_config_entry(_FOLDER, str(self._source.absolute().parent))
        return self.path.read_bytes()
