"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit.runtimes.base import RuntimeStatus, Session, SessionOptions

from edgekit.errors import RuntimeUnavailableError
from edgekit.spec import DTYPES, Feeds, Outputs, TensorSpec

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["OpenVino"]

#: Where the exporter leaves the wish for half-precision arithmetic, and OpenVINO's names for it.
_PRECISION_INFO = ["edgekit", "inference_precision"]
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

        # Without the hint a CPU with bf16 units silently computes "fp32" models in bfloat16.
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if options.threads is not None:
            config["INFERENCE_NUM_THREADS"] = options.threads
        try:
            core = ov.Core()
            model = core.read_model(str(artifact))
            if model.has_rt_info(_PRECISION_INFO):
                wanted = _HINTS[model.get_rt_info(_PRECISION_INFO).astype(str)]
                if wanted in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                    config["INFERENCE_PRECISION_HINT"] = wanted.lower()
            compiled = core.compile_model(model, "CPU", config)
        except Exception as error:  # the binding raises bare RuntimeError and GeneralFailure
            raise RuntimeUnavailableError(
                f"OpenVINO refuses the model: {' '.join(str(error).split())[-300:]}",
                where=str(artifact),
                fix="Export it again, or choose another runtime",
            ) from error
        return _OpenVinoSession(compiled)


class _OpenVinoSession(Session):
    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request: ov.InferRequest | None = compiled.create_infer_request()
        self.inputs = tuple(_spec(port) for port in compiled.inputs)
        self.outputs = tuple(_spec(port) for port in compiled.outputs)

    def _run(self, feeds: Feeds) -> Outputs:
        if self._request is None:
            raise RuntimeError("the session is closed")
        results = self._request.infer(
            [np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs], share_inputs=True
        )
        return {spec.name: results[index] for index, spec in enumerate(self.outputs)}

    def close(self) -> None:
        self._request = None


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
