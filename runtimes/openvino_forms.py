"""The forms that OpenVINO compiles of one artifact, and how they are kept for the next load."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit.runtimes.base import Layer, SessionOptions
from edgekit.runtimes.cores import on_cores
from edgekit.runtimes.kept import KeptFile
from edgekit.runtimes.openvino_form import Form, compute
from edgekit.runtimes.openvino_layers import add_all_outputs
from edgekit.runtimes.openvino_tensors import dtype_of

from edgekit.cache import writeable
from edgekit.errors import RuntimeUnavailableError
from edgekit.spec import DTYPES, Array, TensorSpec, from_rows, to_rows
from edgekit.state import STATE

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["MODULES_INFO", "Forms", "Plan"]

_log = logging.getLogger(__name__)

#: Where the exporter leaves the wish for half-precision arithmetic, and OpenVINO's names for it.
_PRECISION_INFO = ["edgekit", "inference_precision"]
_HINTS = {"bf16": "BF16", "fp16": "FP16"}
#: Where the exporter names the shapes that most calls have: JSON, -1 for what stays dynamic.
_SHAPES_INFO = ["edgekit", "usual_shapes"]
#: Where OpenVINO keeps the ONNX file's metadata on states.
_STATE_INFO = ["framework", STATE]
#: Where the exporter notes the PyTorch module of each tensor: JSON, ``{module: [tensor, ...]}``.
MODULES_INFO = ["edgekit", "modules"]
#: Where the exporter says from which share of zeros on to pack int8 weights, and the option.
_SPARSE_INFO = ["edgekit", "sparse_rate"]
_SPARSE_RATE = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"

#: Devices that hand the work on to others: ``HETERO:GPU,CPU``.
_VIRTUAL = ("AUTO", "HETERO", "MULTI", "BATCH")

#: A compiled form begins at a multiple of this in its file, so that it can be mapped.
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be known of a model beside its compiled forms.

    Attributes:
        inputs: of the model, with its dynamic dimensions.
        outputs: likewise.
        shapes: the shapes that most calls have, -1 for what stays dynamic; empty without any.
        config: what the artifact wishes of the engine.
        states: what the artifact says of its states, see :func:`edgekit.state.to_text`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    shapes: dict[str, list[int]]
    config: dict[str, Any]
    states: str = "[]"


class Forms:
    """Compiles an artifact, or takes what an earlier load on this machine compiled.

    Args:
        sources: the file to load, and those that it needs beside.
        options: how.

    Attributes:
        plan: of the model as it is.
        layers: see :attr:`~edgekit.runtimes.Session.layers`.
        names: of everything that a request returns: outputs first, then what is inside.

    Raises:
        RuntimeUnavailableError: OpenVINO does not find the device.
        Exception: whatever OpenVINO raises where it cannot read the file.
    """

    def __init__(self, sources: Sequence[Path], options: SessionOptions) -> None:
        import openvino as ov  # heavy and optional: only when this runtime is used

        self._ov = ov
        self._core = ov.Core()
        self._sources = sources
        self._device = _found(self._core, options.device or "CPU")
        self._cores = options.cores if self._device == "CPU" else None
        unusual = options.intermediates or options.trace is not None
        cache = None if unusual else writeable(options.cache)
        self._cache = cache if self._device == "CPU" else None
        self._config = {"PERFORMANCE_HINT": "LATENCY"}
        if self._device == "CPU":
            # Without the hint a CPU with bf16 units silently computes "fp32" models in bfloat16.
            self._config["INFERENCE_PRECISION_HINT"] = "f32"
            threads = 1 if options.cores else options.threads
            if threads is not None:
                self._config["INFERENCE_NUM_THREADS"] = str(threads)
            if options.cores is not None:
                self._config["ENABLE_CPU_PINNING"] = "YES"  # to that of the thread that compiles
        elif cache is not None:
            self._config["CACHE_DIR"] = str(cache)  # what it can keep differs by device
        self._traced = options.trace is not None
        if self._traced:
            self._config["PERF_COUNT"] = "YES"
            if self._device == "CPU":
                self._config["NUM_STREAMS"] = "1"  # each counts by itself
        self._blobs: dict[str, Array] = {}
        self.layers: tuple[Layer, ...] = ()
        kept = self._kept("usual")
        plan = kept.plan() if kept is not None else None
        if plan is None:
            outputs = tuple(_spec(port) for port in self.model.outputs)
            if options.intermediates:
                self.layers = add_all_outputs(self.model, options.given)
            plan = self._plan(outputs)
        self.plan = plan
        self.names = [spec.name for spec in plan.outputs]
        if options.intermediates:
            self.names = [port.get_any_name() for port in self.model.outputs]

    def usual(self) -> Form:
        """For the shapes that most calls have; for any where there are none such."""
        return self._form("usual", self.plan.shapes)

    def general(self) -> Form:
        """For any shapes."""
        return self._form("general", {})

    def _form(self, name: str, shapes: dict[str, list[int]]) -> Form:
        config = self._config | self.plan.config
        kept = self._kept(name)
        form = self._imported(kept, config) if kept is not None else None
        if form is not None:
            return form
        if name in self._blobs:
            return self._anew(self._blobs[name], config)
        model = self.model
        if shapes:
            model = model.clone()
            model.reshape(shapes)
        # OpenVINO counts the cores once for the whole process. Finding the device did that, when
        # this thread was still free to run on all of them.
        with on_cores(self._cores):
            compiled = self._core.compile_model(model, self._device, config)
        if kept is not None:
            kept.write(self.plan, compiled)
        if self._traced and self._device == "CPU":
            self._blobs[name] = np.frombuffer(_exported(compiled), np.uint8)
            return self._anew(self._blobs[name], config)
        return Form(compiled, keeps=self._device == "CPU")

    def _anew(self, blob: Array, config: dict[str, Any]) -> Form:
        """A compiled form without what the same counted before; it computes in one way only."""
        data = self._ov.Tensor(blob, shared_memory=True)
        with on_cores(self._cores):
            form = Form(self._core.import_model(data, self._device, config), blob, keeps=True)
        form.hold(compute)
        return form

    def _imported(self, kept: _KeptForm, config: dict[str, Any]) -> Form | None:
        blob = kept.blob()
        if blob is None:
            return None
        data = self._ov.Tensor(blob, shared_memory=True)
        try:
            with on_cores(self._cores):
                return Form(self._core.import_model(data, self._device, config), blob, keeps=True)
        except RuntimeError as error:
            _log.warning("%s is made again: %s", kept.path, str(error)[-200:])
            kept.drop()
            return None

    @cached_property
    def model(self) -> ov.Model:
        """The artifact as it was written."""
        graph, *weights = map(str, self._sources)
        if graph.endswith(".onnx"):
            return self._core.read_model(graph)  # which names its weights
        return self._core.read_model(graph, *weights)

    def _kept(self, name: str) -> _KeptForm | None:
        if self._cache is None:
            return None
        version = self._ov.__version__
        return _KeptForm(self._sources, self._cache, f"openvino-{name}", version, ".blob")

    def _plan(self, outputs: tuple[TensorSpec, ...]) -> Plan:
        """What the model says of itself, and what its exporter left in it."""
        model = self.model
        shapes: dict[str, list[int]] = {}
        if model.has_rt_info(_SHAPES_INFO):
            shapes = json.loads(model.get_rt_info(_SHAPES_INFO).astype(str))
        config = self._wishes() if self._device == "CPU" else {}
        states = "[]"
        if model.has_rt_info(_STATE_INFO):
            states = model.get_rt_info(_STATE_INFO).astype(str)
        return Plan(tuple(_spec(port) for port in model.inputs), outputs, shapes, config, states)

    def _wishes(self) -> dict[str, Any]:
        """Settings that the exporter asked for, as far as this CPU has them."""
        model = self.model
        wishes: dict[str, Any] = {}
        if model.has_rt_info(_PRECISION_INFO):
            wanted = _HINTS[model.get_rt_info(_PRECISION_INFO).astype(str)]
            if wanted in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                wishes["INFERENCE_PRECISION_HINT"] = wanted.lower()
        if model.has_rt_info(_SPARSE_INFO):
            rate = float(model.get_rt_info(_SPARSE_INFO).astype(str))
            if _SPARSE_RATE in self._core.get_property("CPU", "SUPPORTED_PROPERTIES"):
                wishes[_SPARSE_RATE] = rate
        return wishes


class _KeptForm(KeptFile):
    """A line of JSON, the plan, filled up with spaces to whole pages; then OpenVINO's own bytes."""

    def plan(self) -> Plan | None:
        """None where nothing is kept, or it is damaged."""
        header, _ = self._header()
        if header is None:
            return None
        for field in ("inputs", "outputs"):
            header[field] = from_rows(header[field])
        return Plan(**header)

    def blob(self) -> Array | None:
        """The compiled form, mapped: OpenVINO reads the weights in place. None as above."""
        header, start = self._header()
        return None if header is None else np.memmap(self.path, np.uint8, "c", offset=start)

    def write(self, plan: Plan, compiled: ov.CompiledModel) -> None:
        """Keep ``compiled``; a full disk is told, and nothing is kept then."""
        blob = _exported(compiled)
        header = {
            "inputs": to_rows(plan.inputs),
            "outputs": to_rows(plan.outputs),
            "shapes": plan.shapes,
            "config": plan.config,
            "states": plan.states,
        }
        line = json.dumps([header, len(blob)]).encode()
        try:
            with self.partial.open("wb") as file:
                file.write(line.ljust(-(len(line) + 1) % _PAGE + len(line)) + b"\n")
                file.write(blob)
            self.keep()
        except OSError as error:
            _log.warning("nothing is kept in %s: %s", self.path, error.strerror or error)
            self.partial.unlink(missing_ok=True)

    def _header(self) -> tuple[dict[str, Any] | None, int]:
        """What the first line says, and where the rest begins."""
        try:
            with self.path.open("rb") as file:
                header, size = json.loads(file.readline())
                start = file.tell()
        except (FileNotFoundError, ValueError, TypeError):
            return None, 0
        whole = self.path.stat().st_size == start + size
        return (header, start) if whole else (None, 0)


def _exported(compiled: ov.CompiledModel) -> memoryview:
    """The bytes that a compiled model can be made of again."""
    stream = io.BytesIO()
    compiled.export_model(stream)
    return stream.getbuffer()


def _found(core: ov.Core, device: str) -> str:
    """``device``, where all that it names is here."""
    kind, _, listed = device.partition(":")
    virtual = kind in _VIRTUAL
    for one in filter(None, listed.split(",")) if virtual else [device]:
        name = one.removeprefix("-").partition("(")[0]
        if name not in core.available_devices and f"{name}.0" not in core.available_devices:
            raise RuntimeUnavailableError(
                f"OpenVINO finds no device {name!r}; it finds {', '.join(core.available_devices)}",
                where=f"device {device}",
                fix="Name one of these, or install the device's driver",
            )
    return device


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name()
    dtype = dtype_of(port)
    if dtype not in DTYPES:
        raise RuntimeUnavailableError(
            f"element type {port.element_type} is not one edgekit can feed",
            where=f"tensor {name!r}",
            fix="Use numeric or bool tensors for inputs and outputs",
        )
    shape = tuple(
        f"{name}_{axis}" if dim.is_dynamic else dim.get_length()
        for axis, dim in enumerate(port.partial_shape)
    )
    return TensorSpec(name, dtype, shape)
