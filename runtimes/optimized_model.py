"""What ONNX Runtime makes of a model when it loads it, kept for the next load."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnxruntime as ort

from edgekit.machine import this_machine

__all__ = ["OptimizedModel"]


class OptimizedModel:
    """One file in a cache: the optimized graph, good for this version on this processor.

    Args:
        artifact: the file that it is made from.
        cache: an existing folder that can be written.
    """

    def __init__(self, artifact: Path, cache: Path) -> None:
        status, machine = artifact.stat(), this_machine()
        made_of = (status.st_size, status.st_mtime_ns, ort.__version__, machine.cpu)
        self._source = artifact
        self._name = f"onnxruntime-{_digest(artifact.resolve())}"
        self._path = cache / f"{self._name}-{_digest(made_of, machine.features)}.onnx"
        self._partial = cache / f".{self._path.name}.{os.getpid()}"

    def prepare(self, settings: ort.SessionOptions) -> str:
        """The file to load with ``settings``, which are changed so that it is kept or reused."""
        if self._path.is_file():
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            return str(self._path)
        settings.optimized_model_filepath = str(self._partial)
        return str(self._source)

    def keep(self) -> None:
        """After loading: what was written is whole; what was made of older artifacts goes."""
        if self._partial.is_file():
            self._partial.replace(self._path)
            for other in self._path.parent.glob(f"{self._name}-*.onnx"):
                if other != self._path:
                    other.unlink(missing_ok=True)

    def drop(self) -> bool:
        """After a failure: whether a kept file may be to blame; it is gone then."""
        self._partial.unlink(missing_ok=True)
        kept = self._path.is_file()
        self._path.unlink(missing_ok=True)
        return kept


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
