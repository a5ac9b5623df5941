"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit.runtimes.base import (
    Layer,
    RuntimeStatus,
    Session,
    SessionOptions,
    wrong_out,
    wrong_results,
)
from edgekit.runtimes.openvino_layers import add_all_outputs

from edgekit.cache import writeable
from edgekit.errors import RuntimeUnavailableError
from edgekit.external_data import check_external_data
from edgekit.spec import DTYPES, Feeds, Outputs, TensorSpec

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["OpenVino"]

#: Where the exporter leaves the wish for half-precision arithmetic, and OpenVINO's names for it.
_PRECISION_INFO = ["edgekit", "inference_precision"]
#: Where the exporter names the shapes that most calls have: JSON, -1 for what stays dynamic.
_SHAPES_INFO = ["edgekit", "usual_shapes"]
#: Where the exporter says from which share of zeros on to pack int8 weights, and the option.
_SPARSE_INFO = ["edgekit", "sparse_rate"]
_SPARSE_RATE = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
_HINTS = {"bf16": "BF16", "fp16": "FP16"}


class OpenVino:
    """Runs OpenVINO IR (``.xml``) and ``.onnx`` files with OpenVINO's CPU plugin.

    Float operators compute in float32, or in the half precision that the artifact asks for where
    this CPU has it.
    """

    name = "openvino"

    def status(self) -> RuntimeStatus:
        if importlib.util.find_spec("openvino") is None:
            return RuntimeStatus(
                usable=False,
                reason="openvino is not installed",
                install="pip install 'edgekit[openvino]'",
            )
        return RuntimeStatus(usable=True, version=importlib.metadata.version("openvino"))

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        import openvino as ov  # heavy and optional: only when this runtime is used

        if artifact.suffix == ".onnx":
            check_external_data(artifact)
        # Without the hint a CPU with bf16 units silently computes "fp32" models in bfloat16.
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        cache = writeable(options.cache)
        if cache is not None:
            config["CACHE_DIR"] = str(cache)
        if options.threads is not None:
            config["INFERENCE_NUM_THREADS"] = options.threads
        try:
            core = ov.Core()
            model = core.read_model(str(artifact))
            if model.has_rt_info(_PRECISION_INFO):
                wanted = _HINTS[model.get_rt_info(_PRECISION_INFO).astype(str)]
                if wanted in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                    config["INFERENCE_PRECISION_HINT"] = wanted.lower()
            if model.has_rt_info(_SPARSE_INFO) and _SPARSE_RATE in core.get_property(
                "CPU", "SUPPORTED_PROPERTIES"
            ):
                config[_SPARSE_RATE] = float(model.get_rt_info(_SPARSE_INFO).astype(str))
            outputs = len(model.outputs)
            layers = add_all_outputs(model, options.given) if options.intermediates else ()
            return _OpenVinoSession(
                model,
                lambda form: core.compile_model(form, "CPU", config),
                ov.Tensor,
                outputs=outputs,
                layers=layers,
            )
        except RuntimeUnavailableError:
            raise
        except Exception as error:  # the binding raises bare RuntimeError and GeneralFailure
            raise RuntimeUnavailableError(
                f"OpenVINO refuses the model: {' '.join(str(error).split())[-300:]}",
                where=str(artifact),
                fix="Export it again, or choose another runtime",
            ) from error


class _Form:
    """A compiled model with its idle requests: one for each thread that ever ran at once."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.make = compiled.create_infer_request
        self._idle = deque([self.make()])

    def take(self) -> ov.InferRequest:
        """A request that nobody else has, until it is given back."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.make()

    def give_back(self, request: ov.InferRequest) -> None:
        self._idle.append(request)


class _OpenVinoSession(Session):
    """Up to two compiled forms of one model: for the usual shapes, and for any other.

    OpenVINO plans a graph of known shapes once (memory, kernels, loop bounds) and one of dynamic
    shapes at every call: measured at batch 1, the static form takes 0.91x the time of the dynamic
    one on EfficientNet-Lite0, 0.82x on ResNet-8. The general form costs a second copy of the packed
    weights, so it is compiled when the first call needs it.
    """

    def __init__(
        self,
        model: ov.Model,
        compile_model: Callable[[ov.Model], ov.CompiledModel],
        tensor: type[ov.Tensor],
        *,
        outputs: int,
        layers: tuple[Layer, ...],
    ) -> None:
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs[:outputs])
        self.layers = layers
        self._names = [port.get_any_name() for port in model.outputs]
        self._fixed: list[tuple[str, int, int]] = []
        self._tensor = tensor
        self._usual: _Form | None = None
        self._general: _Form | None = None
        self._compile: Callable[[], _Form] | None = lambda: _Form(compile_model(model))
        self._compiling = Lock()
        if model.has_rt_info(_SHAPES_INFO):
            shapes = json.loads(model.get_rt_info(_SHAPES_INFO).astype(str))
            usual = model.clone()
            usual.reshape(shapes)
            self._fixed = [
                (name, axis, size)
                for name, shape in shapes.items()
                for axis, size in enumerate(shape)
                if size >= 0
            ]
            self._usual = _Form(compile_model(usual))
        else:
            self._general = self._compile()

    def _run(self, feeds: Feeds) -> Outputs:
        form = self._form(feeds)
        request = form.take()
        try:
            self._infer(request, feeds)
            return {
                name: request.get_output_tensor(index).data.copy()
                for index, name in enumerate(self._names)
            }
        finally:
            form.give_back(request)

    def _run_into(self, feeds: Feeds, out: Outputs) -> Outputs:
        form = self._form(feeds)
        request = form.take()
        places = {name: index for index, name in enumerate(self._names)}
        own = {name: request.get_output_tensor(places[name]) for name in out}
        try:
            for name, array in out.items():
                request.set_output_tensor(places[name], self._tensor(array, shared_memory=True))
            self._infer(request, feeds)
            results = {name: request.get_output_tensor(i).data for name, i in places.items()}
        except RuntimeError as error:
            raise wrong_results("OpenVINO", error) from error
        else:
            for name, array in out.items():
                if results[name].shape != array.shape:
                    raise wrong_out(name, array.shape, results[name].shape)
            return {name: out[name] if name in out else x.copy() for name, x in results.items()}
        finally:
            # Later calls must not write into these arrays.
            for name, tensor in own.items():
                request.set_output_tensor(places[name], tensor)
            form.give_back(request)

    def _infer(self, request: ov.InferRequest, feeds: Feeds) -> None:
        # The request points into these arrays, without holding them, until it has run.
        arrays = [np.require(feeds[spec.name], requirements="C") for spec in self.inputs]
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, self._tensor(array, array.flags.writeable))
        # Not infer(): that computes in the calling thread, beside OpenVINO's own pinned ones.
        # EfficientNet-Lite0 in int8 on two cores took 0.96x the time this way, ResNet-8 0.86x.
        request.start_async()
        request.wait()

    def _form(self, feeds: Feeds) -> _Form:
        compile_general = self._compile
        if compile_general is None:
            raise RuntimeError("the session is closed")
        if self._usual is not None and all(
            feeds[name].shape[axis] == size for name, axis, size in self._fixed
        ):
            return self._usual
        if self._general is None:
            with self._compiling:
                self._general = self._general or compile_general()
        return self._general

    def _release(self) -> None:
        self._usual = self._general = self._compile = None


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name()
    dtype = np.dtype(port.element_type.to_dtype()).name
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
