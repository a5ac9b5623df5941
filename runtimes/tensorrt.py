"""Engines of TensorRT and TensorRT-RTX on an NVIDIA GPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from edgekit.runtimes.base import RuntimeStatus, Session, SessionOptions
from edgekit.runtimes.cuda_memory import CudaMemory
from edgekit.runtimes.files import check_file
from edgekit.runtimes.kept import KeptFile
from edgekit.runtimes.tensorrt_timer import TensorRtTimer
from edgekit.runtimes.timer import LayerTimer

from edgekit.cache import writeable
from edgekit.engine_file import GPU_TARGETS, EngineFile, read_engine_file
from edgekit.engine_log import ErrorLog
from edgekit.errors import RuntimeUnavailableError
from edgekit.gpu import find_gpu
from edgekit.spec import DTYPES, Feeds, Outputs, TensorSpec

__all__ = ["TensorRt", "TensorRtRtx", "check_engine"]


class TensorRt:
    """Runs ``.engine`` files with TensorRT."""

    name = "tensorrt"
    package = "tensorrt"

    def status(self) -> RuntimeStatus:
        if importlib.util.find_spec(self.package) is None:
            return self._missing(None, f"{self.name} is not installed")
        gpu, why = find_gpu()
        if "not installed" in why:
            return self._missing(self._version(), why)
        if gpu and gpu not in GPU_TARGETS[self.name]:
            why = f"{self.name} does not support {gpu}, the GPU that is here"
        return RuntimeStatus(usable=not why, version=self._version(), reason=why, gpu=gpu or None)

    def _version(self) -> str | None:
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:  # installed by the system, not by pip
            return None

    def _missing(self, version: str | None, reason: str) -> RuntimeStatus:
        install = f"pip install 'edgekit[{self.name}]'"
        return RuntimeStatus(usable=False, version=version, reason=reason, install=install)

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        check_file(artifact, ".engine", ".plan", ".trt")
        file = read_engine_file(artifact)
        status = self.status()
        check_engine(file, artifact, self.name, status)
        if not status.usable:
            fix = f"Run: {status.install}" if status.install else "Load it where there is a GPU"
            raise RuntimeUnavailableError(status.reason, where=f"runtime {self.name}", fix=fix)
        if options.device not in {None, "GPU"}:
            raise RuntimeUnavailableError(
                f"{self.name} has no device {options.device!r}",
                where="device",
                fix="Use GPU, and CUDA_VISIBLE_DEVICES to choose one of several",
            )
        if options.intermediates:
            raise RuntimeUnavailableError(
                "an engine does not give what it computes inside",
                where=str(artifact),
                fix="Compare the ONNX graph that it was built from",
            )
        trt = importlib.import_module(self.package)  # heavy and optional
        log = ErrorLog(trt)
        engine = self._engine(trt, log, artifact)
        if engine is None:
            raise RuntimeUnavailableError(
                f"{self.name} {trt.__version__} refuses the engine: {log.first}",
                where=str(artifact),
                fix="Build it again on this version, for this GPU",
            )
        context, keep = self._context(engine, artifact, options.cache)
        return _TensorRtSession(trt, engine, context, keep)

    def timer(self, artifact: Path, options: SessionOptions) -> LayerTimer:
        """What tells how long each layer takes; see :func:`~.timer.open_timer`."""
        session = self.load(artifact, options)
        assert isinstance(session, _TensorRtSession)
        return session.timer(importlib.import_module(self.package))

    def _engine(self, trt: Any, log: ErrorLog, artifact: Path) -> Any:
        """The engine, None (and a logged error) when it is refused."""
        return trt.Runtime(log.logger).deserialize_cuda_engine(artifact.read_bytes())

    def _context(
        self, engine: Any, artifact: Path, cache: Path | None
    ) -> tuple[Any, Callable[[], None]]:
        """What runs the engine, and what to do when it is closed."""
        del artifact, cache  # nothing is left to compile
        return engine.create_execution_context(), lambda: None


class TensorRtRtx(TensorRt):
    """Runs ``.engine`` files with TensorRT-RTX, which compiles their kernels as it loads them.

    What it compiles is kept in :attr:`~.SessionOptions.cache`.
    """

    name = "tensorrt-rtx"
    package = "tensorrt_rtx"

    def _engine(self, trt: Any, log: ErrorLog, artifact: Path) -> Any:
        runtime, data = trt.Runtime(log.logger), artifact.read_bytes()
        validity, found = runtime.get_engine_validity(data)
        if validity == trt.EngineValidity.INVALID:
            members = trt.EngineInvalidityDiagnostics.__members__.items()
            reasons = [name.replace("_", " ").lower() for name, bit in members if found & int(bit)]
            raise RuntimeUnavailableError(
                f"{self.name} {trt.__version__} cannot run the engine: "
                f"{', '.join(reasons) or log.first}",
                where=str(artifact),
                fix="Build it again with this version, for this GPU; or update the GPU's driver",
            )
        return runtime.deserialize_cuda_engine(data)

    def _context(
        self, engine: Any, artifact: Path, cache: Path | None
    ) -> tuple[Any, Callable[[], None]]:
        folder = writeable(cache)
        if folder is None:
            return super()._context(engine, artifact, cache)
        config = engine.create_runtime_config()
        kernels = config.create_runtime_cache()
        kept = KeptFile([artifact], folder, self.name, str(self._version()), ".kernels")
        old = kept.path.read_bytes() if kept.path.is_file() else b""
        if old:
            kernels.deserialize(old)  # False where it is of another GPU or driver: it starts empty
        config.set_runtime_cache(kernels)

        def keep() -> None:
            new = bytes(kernels.serialize())
            if new == old:
                return
            try:
                kept.partial.write_bytes(new)
                kept.keep()
            except OSError:  # a full disk costs the time of compiling again, no more
                kept.drop()

        return engine.create_execution_context(config), keep


def check_engine(file: EngineFile, artifact: Path, runtime: str, status: RuntimeStatus) -> None:
    """Refuse an engine of another builder, version or GPU before the engine does, by name.

    Args:
        file: its header.
        artifact: its path.
        runtime: what shall run it.
        status: of that; what it does not say is not checked.

    Raises:
        RuntimeUnavailableError: it does not fit; says what is expected and what there is.
    """
    mend = "Build the engine again with edgekit export --gpu, here or for this machine"
    if file.builder != runtime:
        raise RuntimeUnavailableError(
            f"is an engine of {file.builder}, not of {runtime}",
            where=str(artifact),
            fix=f"Load it with {file.builder}",
        )
    if status.version is not None and file.version != status.version:
        raise RuntimeUnavailableError(
            f"was built by {runtime} {file.version}, installed is {status.version}",
            where=str(artifact),
            fix=f"{mend}, or install {runtime}=={file.version}",
        )
    if status.gpu is not None and file.gpus and status.gpu not in file.gpus:
        raise RuntimeUnavailableError(
            f"was built for {', '.join(file.gpus)}, this GPU is {status.gpu}",
            where=str(artifact),
            fix=mend,
        )


class _TensorRtSession(Session):
    """One execution context; calls from several threads run one after the other."""

    def __init__(self, trt: Any, engine: Any, context: Any, keep: Callable[[], None]) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        for name in names:
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise RuntimeUnavailableError(
                    "is a shape that the engine reads on the CPU, which edgekit cannot feed",
                    where=f"tensor {name!r}",
                    fix="Make shapes constant in the model",
                )
        self.inputs = tuple(_spec(trt, engine, name) for name in inputs)
        self.outputs = tuple(_spec(trt, engine, name) for name in names if name not in inputs)
        self.limits = {
            spec.name: (tuple(low), tuple(high))
            for spec in self.inputs
            if spec.dynamic
            for low, _, high in (engine.get_tensor_profile_shape(spec.name, 0),)
        }
        self._memory = CudaMemory()
        self._engine, self._context, self._keep = engine, context, keep
        self._lock = Lock()

    def timer(self, trt: Any) -> LayerTimer:
        """Runs this session to see how long each layer takes."""
        return TensorRtTimer(trt, self, self._engine, self._context)

    def _run(self, feeds: Feeds) -> Outputs:
        with self._lock:
            if self._context is None:
                raise RuntimeError("the session is closed")
            arrays = {
                spec.name: np.require(feeds[spec.name], requirements="C") for spec in self.inputs
            }
            for name, array in arrays.items():
                self._context.set_input_shape(name, array.shape)
                self._context.set_tensor_address(name, self._memory.upload(name, array))
            outputs = {spec.name: self._place(spec) for spec in self.outputs}
            if not self._context.execute_async_v3(self._memory.stream):
                raise RuntimeError("TensorRT could not start the inference")
            for name, array in outputs.items():
                self._memory.download(name, array)
            self._memory.wait()
            return outputs

    def _place(self, spec: TensorSpec) -> Any:
        """Where an output of this call goes, which the engine knows once it knows the inputs."""
        shape = tuple(self._context.get_tensor_shape(spec.name))
        if any(size < 0 for size in shape):
            raise RuntimeUnavailableError(
                "has a shape that depends on values, which edgekit cannot read from an engine",
                where=f"tensor {spec.name!r}",
                fix="Run the model on ONNX Runtime",
            )
        array = np.empty(shape, spec.dtype)
        address = self._memory.address(spec.name, max(array.nbytes, 1))
        self._context.set_tensor_address(spec.name, address)
        return array

    def _release(self) -> None:
        with self._lock:
            if self._context is not None:
                self._keep()
                self._context = self._engine = None
                self._memory.close()


def _spec(trt: Any, engine: Any, name: str) -> TensorSpec:
    kind = engine.get_tensor_dtype(name)
    try:
        dtype = np.dtype(trt.nptype(kind)).name
    except TypeError:
        dtype = ""
    if dtype not in DTYPES:
        raise RuntimeUnavailableError(
            f"element type {kind} is not one edgekit can feed",
            where=f"tensor {name!r}",
            fix="Use numeric or bool tensors for inputs and outputs",
        )
    shape = tuple(
        f"{name}_{axis}" if size < 0 else int(size)
        for axis, size in enumerate(engine.get_tensor_shape(name))
    )
    return TensorSpec(name, dtype, shape)
