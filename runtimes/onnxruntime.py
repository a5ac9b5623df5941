"""ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from edgekit.runtimes.base import Layer, RuntimeStatus, Session, SessionOptions, wrong_results
from edgekit.runtimes.cores import check_cores, on_cores
from edgekit.runtimes.files import check_file, refused
from edgekit.runtimes.onnx_layers import with_all_outputs
from edgekit.runtimes.onnxruntime_providers import CPU, find_provider, require_provider
from edgekit.runtimes.onnxruntime_values import as_value, from_value
from edgekit.runtimes.optimized_model import OptimizedModel
from edgekit.runtimes.timer import LayerTimer

from edgekit.cache import writeable
from edgekit.errors import RuntimeUnavailableError
from edgekit.external_data import check_external_data
from edgekit.spec import Feeds, Outputs, TensorSpec
from edgekit.state import STATE, from_text

__all__ = ["OPTIMIZED", "OnnxRuntime"]

#: What a session with :attr:`.SessionOptions.trace` writes the graph to that it executes.
OPTIMIZED = "optimized.onnx"

_BITS = (8, 16, 32, 64)
_DTYPES = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in _BITS},
}  # fmt: skip


class OnnxRuntime:
    """Runs ``.onnx`` and ``.ort`` files with one of ONNX Runtime's execution providers.

    What a provider cannot compute, the CPU does. Without a device it is the CPU.
    """

    name = "onnxruntime"

    def status(self) -> RuntimeStatus:
        # onnxruntime is a core dependency: importing this module already proved it present.
        return RuntimeStatus(usable=True, version=ort.__version__)

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        check_file(artifact, ".onnx", ".ort")
        provider = find_provider(options.device)
        check_cores(options.cores)
        plain = artifact.suffix != ".ort"  # which is no protobuf, and holds its weights
        weights = check_external_data(artifact) if plain else []
        settings = _settings(options)
        model: str | bytes = str(artifact)
        layers: tuple[Layer, ...] = ()
        outputs: int | None = None
        if options.intermediates:
            model, layers, outputs = with_all_outputs(artifact, options.given)
        cached = None
        cache = writeable(options.cache)
        if cache and plain and provider == CPU and options.optimize and not options.intermediates:
            cached = OptimizedModel(artifact, weights, cache)
            model = cached.prepare(settings)
        try:
            with on_cores(options.cores):
                session = _opened(model, settings, list(dict.fromkeys((provider, CPU))))
            require_provider(session, provider)
        except RuntimeUnavailableError:
            raise
        except Exception as error:  # ORT raises a dozen unrelated types out of its C++ binding
            if cached is not None:  # it may be damaged, or its disk full
                cached.drop()
                return self.load(artifact, replace(options, cache=None))
            raise refused(f"ONNX Runtime {ort.__version__}", artifact, error) from error
        if cached is not None and cached.partial.is_file():
            cached.keep()
        return OnnxRuntimeSession(session, layers, outputs, options.cores)

    def timer(self, artifact: Path, options: SessionOptions) -> LayerTimer:
        """What tells how long each operator takes; see :func:`~.timer.open_timer`."""
        from edgekit.runtimes.onnxruntime_timer import OnnxRuntimeTimer  # which loads by this class

        return OnnxRuntimeTimer(self, artifact, options)


class OnnxRuntimeMinimal(OnnxRuntime):
    """What a minimal build of ONNX Runtime computes, computed by the full one."""

    name = "onnxruntime-minimal"


def _settings(options: SessionOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.enable_cpu_mem_arena = options.arena
    # By default the threads spin for tens of milliseconds after a run and take the cores away
    # from whatever comes next: another model, another engine, the server itself.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    threads = options.threads or (len(options.cores) if options.cores else None)
    if threads is not None:
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
    if options.trace is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(options.trace / "run")
        settings.optimized_model_filepath = str(options.trace / OPTIMIZED)
        beside = "session.optimized_model_external_initializers_"  # it may be too large for one
        settings.add_session_config_entry(f"{beside}file_name", f"{OPTIMIZED}.data")
        settings.add_session_config_entry(f"{beside}min_size_in_bytes", "1024")
    if not options.optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


def _opened(
    model: str | bytes, settings: ort.SessionOptions, providers: list[str]
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, settings, providers=providers)
    except Exception as error:
        # 1.31 fuses products of float8 as if they were of int8, and refuses what comes of it.
        if "float8" not in str(error):
            raise
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        return ort.InferenceSession(model, settings, providers=providers)


class OnnxRuntimeSession(Session):
    """With ``layers``, all but the first ``outputs`` results are from inside the model."""

    def __init__(
        self,
        session: ort.InferenceSession,
        layers: tuple[Layer, ...] = (),
        outputs: int | None = None,
        cores: tuple[int, ...] | None = None,
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self._cores = cores
        self.layers = layers
        found = session.get_outputs()
        own, inside = found[:outputs], found[outputs:] if outputs else []
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in own)
        self.states = from_text(session.get_modelmeta().custom_metadata_map.get(STATE, "[]"))
        self._bfloat16 = any(x.dtype == "bfloat16" for x in (*self.inputs, *self.outputs))
        self._names = [spec.name for spec in self.outputs]
        self._names += [x.name for x in inside if _DTYPES.get(x.type, "").startswith("float")]

    def _run(self, feeds: Feeds) -> Outputs:
        if self._bfloat16:
            return self._run_into(feeds, {})
        if self._session is None:
            raise RuntimeError("the session is closed")
        values = self._session.run(self._names, dict(feeds))
        return dict(zip(self._names, values, strict=True))

    def _run_into(self, feeds: Feeds, out: Outputs) -> Outputs:
        if self._session is None:
            raise RuntimeError("the session is closed")
        binding = self._session.io_binding()
        for spec in self.inputs:
            array = np.require(feeds[spec.name], requirements="C")
            binding.bind_ortvalue_input(spec.name, as_value(array))
        for name in self._names:
            if name in out:
                binding.bind_ortvalue_output(name, as_value(out[name]))
            else:
                binding.bind_output(name)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ORT raises a dozen unrelated types out of its C++ binding
            raise wrong_results("ONNX Runtime", error) from error
        made = dict(zip(self._names, binding.get_outputs(), strict=True))
        return {name: out[name] if name in out else from_value(made[name]) for name in self._names}

    def end_trace(self) -> Path:
        """Write the file of :attr:`.SessionOptions.trace`; no run after this is in it."""
        if self._session is None:
            raise RuntimeError("the session is closed")
        return Path(self._session.end_profiling())

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
