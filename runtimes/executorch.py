"""ExecuTorch on the CPU: XNNPACK for phones and boards."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from threading import Lock
from typing import Any

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

from edgekit.spec import Feeds, Outputs, from_rows
from edgekit.tensors import to_array, to_tensor

__all__ = ["ExecuTorch"]


class ExecuTorch:
    """Runs ``.pte`` files, with the ``.json`` that edgekit's exporter writes beside.

    Its Python binding takes PyTorch tensors only, so that here it needs PyTorch; on a device its
    C++ and Java ones run the same file without. The number of threads is one setting of the
    process: the session that was loaded last decides.
    """

    name = "executorch"

    def status(self) -> RuntimeStatus:
        if importlib.util.find_spec("torch") is None:
            return RuntimeStatus(
                usable=False,
                reason="ExecuTorch's Python binding needs torch, which is not installed",
                install="pip install 'edgekit[executorch]'",
            )
        return installed("executorch")

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        only_cpu("ExecuTorch", options)
        not_inside("ExecuTorch", artifact, options)
        check_file(artifact, ".pte")
        specs = artifact.with_suffix(".json")
        check_file(specs, ".json")
        said = io.StringIO()
        try:
            rows = json.loads(specs.read_text())
            with contextlib.redirect_stderr(said):  # it logs, and with an error tells only a code
                method = _method(artifact, options.threads)
            return _ExecuTorchSession(method, rows)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = said.getvalue().strip().rpartition("\n")[2]
            why = RuntimeError(f"{error} {reason}")
            raise refused(f"ExecuTorch {self.status().version}", artifact, why) from error


def _method(artifact: Path, threads: int | None) -> Any:
    """The one method of a program."""
    import torch  # noqa: F401, the binding wants its libraries in the process

    # What portable_lib makes public; importing that takes seconds, as it imports the exporter.
    from executorch.extension.pybindings import _C

    if threads is not None and threads != _C._threadpool_get_thread_count():  # noqa: SLF001
        _C._unsafe_reset_threadpool(threads)  # noqa: SLF001
    program = _C._load_program(  # noqa: SLF001
        str(artifact), program_verification=_C.Verification.InternalConsistency
    )
    return program.load_method("forward")


class _ExecuTorchSession(Session):
    """Calls from several threads run one after the other: a method has one memory plan."""

    def __init__(self, method: Any, rows: Any) -> None:
        inputs, outputs, ranges = rows
        self.inputs, self.outputs = from_rows(inputs), from_rows(outputs)
        self.limits = limits_of(self.inputs, ranges)
        meta = method.method_meta()
        if (meta.num_inputs(), meta.num_outputs()) != (len(self.inputs), len(self.outputs)):
            raise ValueError("the .json file beside it is of another model")
        self._method = method
        self._lock = Lock()

    def _run(self, feeds: Feeds) -> Outputs:
        tensors = [to_tensor(feeds[spec.name]) for spec in self.inputs]
        with self._lock:
            if self._method is None:
                raise RuntimeError("the session is closed")
            made = self._method(tensors)  # outputs are copied out of the planned memory
        return {spec.name: to_array(one) for spec, one in zip(self.outputs, made, strict=True)}

    def _release(self) -> None:
        with self._lock:
            self._method = None
