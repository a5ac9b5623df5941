"""LiteRT (TensorFlow Lite) on the CPU, by its XNNPACK delegate."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from edgekit.runtimes.base import (
    RuntimeStatus,
    Session,
    SessionOptions,
    installed,
    not_inside,
    only_cpu,
)
from edgekit.runtimes.files import check_file, refused
from edgekit.runtimes.limits import limits_of

from edgekit.quiet import native_stderr
from edgekit.spec import Feeds, Outputs, from_rows

__all__ = ["LiteRt"]


class LiteRt:
    """Runs ``.tflite`` files, with the ``.json`` that edgekit's exporter writes beside.

    Every size in such a file is fixed; the samples of a batch are run one after the other.
    """

    name = "litert"

    def status(self) -> RuntimeStatus:
        return installed("ai_edge_litert", extra="litert")

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        from ai_edge_litert.interpreter import Interpreter  # optional: only when it is used

        only_cpu("LiteRT", options)
        not_inside("LiteRT", artifact, options)
        specs = artifact.with_suffix(".json")
        for path, suffix in ((artifact, ".tflite"), (specs, ".json")):
            check_file(path, suffix)
        try:
            rows = json.loads(specs.read_text())
            with native_stderr():  # it logs which delegate it takes
                model = Interpreter(str(artifact), num_threads=options.threads)
                model.allocate_tensors()
            return _LiteRtSession(model, rows)
        except (RuntimeError, TypeError, ValueError) as error:
            raise refused(f"LiteRT {self.status().version}", artifact, error) from error


class _LiteRtSession(Session):
    """Calls from several threads run one after the other: an interpreter has one set of tensors.

    They are called ``args_0``, ``args_1``, ``output_0`` in the order of the traced program.
    """

    def __init__(self, model: Any, rows: Any) -> None:
        inputs, outputs, ranges = rows
        self.inputs, self.outputs = from_rows(inputs), from_rows(outputs)
        self.limits = limits_of(self.inputs, ranges)
        self._compute = model.get_signature_runner()
        details = self._compute.get_input_details()
        if (len(details), len(self._compute.get_output_details())) != (len(inputs), len(outputs)):
            raise ValueError("the .json file beside it is of another model")
        self._shapes = [tuple(details[f"args_{i}"]["shape"]) for i in range(len(inputs))]
        self._lock = Lock()

    def _run(self, feeds: Feeds) -> Outputs:
        arrays = [feeds[spec.name] for spec in self.inputs]
        if [array.shape for array in arrays] == self._shapes:
            return self._sample(arrays)
        rows = [self._sample([array[i : i + 1] for array in arrays]) for i in range(len(arrays[0]))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _sample(self, arrays: list[Any]) -> Outputs:
        with self._lock:
            if self._compute is None:
                raise RuntimeError("the session is closed")
            made = self._compute(**{f"args_{i}": array for i, array in enumerate(arrays)})
        return {spec.name: made[f"output_{i}"] for i, spec in enumerate(self.outputs)}

    def _release(self) -> None:
        with self._lock:
            self._compute = None
