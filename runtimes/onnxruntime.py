"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from edgekit.runtimes.base import Layer, RuntimeStatus, Session, SessionOptions, wrong_results
from edgekit.runtimes.files import check_file, refused
from edgekit.runtimes.onnx_layers import with_all_outputs
from edgekit.runtimes.optimized_model import OptimizedModel

from edgekit.cache import writeable
from edgekit.errors import RuntimeUnavailableError
from edgekit.external_data import check_external_data
from edgekit.spec import Feeds, Outputs, TensorSpec
from edgekit.state import STATE, from_text

__all__ = ["OnnxRuntime"]

_BITS = (8, 16, 32, 64)
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in _BITS},
}  # fmt: skip


class OnnxRuntime:
    """Runs ``.onnx`` files with ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"

    def status(self) -> RuntimeStatus:
        # onnxruntime is a core dependency: importing this module already proved it present.
        return RuntimeStatus(usable=True, version=importlib.metadata.version("onnxruntime"))

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        check_file(artifact, ".onnx", ".ort")
        weights = check_external_data(artifact)
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        # By default the threads spin for tens of milliseconds after a run and take the cores away
        # from whatever comes next: another model, another engine, the server itself.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
            settings.inter_op_num_threads = 1
        if not options.optimize:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        model: str | bytes = str(artifact)
        layers: tuple[Layer, ...] = ()
        outputs: int | None = None
        if options.intermediates:
            model, layers, outputs = with_all_outputs(artifact, options.given)
        cached = None
        cache = writeable(options.cache)
        if cache and artifact.is_file() and options.optimize and not options.intermediates:
            cached = OptimizedModel([artifact, *weights], cache)
            model = cached.prepare(settings)
        try:
            session = _opened(model, settings)
        except Exception as error:  # ORT raises a dozen unrelated types out of its C++ binding
            if cached is not None:  # it may be damaged, or its disk full
                cached.drop()
                return self.load(artifact, replace(options, cache=None))
            raise refused(f"ONNX Runtime {ort.__version__}", artifact, error) from error
        if cached is not None and cached.partial.is_file():
            cached.keep()
        return _OnnxRuntimeSession(session, layers, outputs)


def _opened(model: str | bytes, settings: ort.SessionOptions) -> ort.InferenceSession:
    providers = ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(model, settings, providers=providers)
    except Exception as error:
        # 1.31 fuses products of float8 as if they were of int8, and refuses what comes of it.
        if "float8" not in str(error):
            raise
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        return ort.InferenceSession(model, settings, providers=providers)


class _OnnxRuntimeSession(Session):
    """With ``layers``, all but the first ``outputs`` results are from inside the model."""

    def __init__(
        self,
        session: ort.InferenceSession,
        layers: tuple[Layer, ...] = (),
        outputs: int | None = None,
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self.layers = layers
        found = session.get_outputs()
        own, inside = found[:outputs], found[outputs:] if outputs else []
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in own)
        self.states = from_text(session.get_modelmeta().custom_metadata_map.get(STATE, "[]"))
        self._names = [spec.name for spec in self.outputs]
        self._names += [x.name for x in inside if _DTYPES.get(x.type, "").startswith("float")]

    def _run(self, feeds: Feeds) -> Outputs:
        if self._session is None:
            raise RuntimeError("the session is closed")
        values = self._session.run(self._names, dict(feeds))
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}

    def _run_into(self, feeds: Feeds, out: Outputs) -> Outputs:
        if self._session is None:
            raise RuntimeError("the session is closed")
        binding = self._session.io_binding()
        for spec in self.inputs:
            binding.bind_cpu_input(spec.name, np.require(feeds[spec.name], requirements="C"))
        for name in self._names:
            if name in out:
                binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(out[name]))
            else:
                binding.bind_output(name)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ORT raises a dozen unrelated types out of its C++ binding
            raise wrong_results("ONNX Runtime", error) from error
        made = dict(zip(self._names, binding.get_outputs(), strict=True))
        return {name: out[name] if name in out else made[name].numpy() for name in self._names}

    def _release(self) -> None:
        self._session = None


def _spec(node: ort.NodeArg) -> TensorSpec:
    shape = tuple(
        dim if isinstance(dim, int | str) and dim != "" else f"{node.name}_{axis}"
        for axis, dim in enumerate(node.shape)
    )
    if node.type not in _DTYPES:
        raise RuntimeUnavailableError(
            f"type {node.type} is not a tensor type edgekit can feed",
            where=f"tensor {node.name!r}",
            fix="Use numeric or bool tensors for inputs and outputs",
        )
    return TensorSpec(node.name, _DTYPES[node.type], shape)
