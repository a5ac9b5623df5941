"""ONNX to an engine of TensorRT or of TensorRT-RTX, which builds for GPUs that are not there."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.save import save_onnx
from edgekit.exporters.scattered import multiply_scattered
from edgekit.exporters.sparse_weights import has_two_of_four
from edgekit.exporters.tensorrt_errors import build_error, parse_error
from google.protobuf.message import DecodeError

from edgekit.atomic import write_file
from edgekit.cache import cache_folder, writeable
from edgekit.engine_file import GPU_TARGETS
from edgekit.engine_log import ErrorLog
from edgekit.errors import ExportError, did_you_mean
from edgekit.gpu import find_gpu

__all__ = ["TensorRtExporter", "TensorRtRtxExporter", "builder_flags", "check_gpu"]


def check_gpu(gpu: str, runtime: str = "tensorrt-rtx") -> str:
    """``gpu`` in lower case, when it names a GPU generation that ``runtime`` builds for.

    Raises:
        ExportError: it does not.
    """
    name = gpu.strip().lower().replace("_", "")
    targets = GPU_TARGETS[runtime]
    if name in targets:
        return name
    other = next((other for other, known in GPU_TARGETS.items() if name in known), None)
    if other is not None:
        raise ExportError(
            f"{runtime} does not build for {name}", fix=f"Use --runtime {other} for this GPU"
        )
    hint = did_you_mean(name, targets)
    raise ExportError(f"unknown GPU target {gpu!r}{hint}", fix=f"Choose from {', '.join(targets)}")


def builder_flags(onnx_path: Path, options: ExportOptions) -> tuple[str, ...]:
    """The builder's flags for a graph, by their names in ``BuilderFlag``.

    ``SPARSE_WEIGHTS`` lets the builder choose kernels that skip zeros where weights are 2:4.
    """
    sparse = ("SPARSE_WEIGHTS",) if has_two_of_four(ir.load(onnx_path)) else ()
    return (*sparse, *(("REFIT",) if options.refit else ()))


class TensorRtExporter:
    """Builds ``stem.engine`` with TensorRT, for the GPU of this machine.

    The network is strongly typed: every operator computes in the type that the graph gives it, so
    Q/DQ pairs of int8 or float8, and fp16 or bf16 tensors, are what makes an engine faster.
    """

    format: Format = "tensorrt-engine"
    newest_opset = 20  # TensorRT 10.0, TensorRT-RTX 1.1
    needs_gpu_target = True
    needs_program = False
    runtime = "tensorrt"
    package = "tensorrt"
    title = "TensorRT"

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        trt = self._import()
        gpu = check_gpu(options.gpu or "", self.runtime)
        self._check_machine(gpu)
        log = ErrorLog(trt)
        builder = trt.Builder(log.logger)
        typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(typed))
        parser = trt.OnnxParser(network, log.logger)
        if not _parsed(parser, onnx_path):
            raise parse_error(parser, onnx_path, self.title)
        config = _config(trt, builder, options)
        for flag in builder_flags(onnx_path, options):
            config.set_flag(getattr(trt.BuilderFlag, flag))
        engine = self._build(trt, builder, network, config, gpu)
        if engine is None:
            raise build_error(log, onnx_path, options, self.title)
        path = stem.with_suffix(".engine")
        path.write_bytes(engine)
        return [path]

    def _import(self) -> Any:
        try:
            return importlib.import_module(self.package)  # heavy and optional
        except ImportError as error:
            raise ExportError(
                f"{self.runtime} is not installed",
                fix=f"Run: pip install 'edgekit[{self.runtime}]'",
            ) from error

    def _check_machine(self, gpu: str) -> None:
        """Refuse to build for a GPU that the kernels cannot be timed on."""
        here, why = find_gpu()
        if here != gpu:
            found = why or f"it is {here}"
            raise ExportError(
                f"{self.title} builds for the GPU at hand only: wanted is {gpu}, {found}",
                fix="Build there, or use --runtime tensorrt-rtx, which needs no GPU",
            )

    def _build(self, trt: Any, builder: Any, network: Any, config: Any, gpu: str) -> Any:
        """The engine, None when it cannot be built.

        Kernels are chosen by timing them. Times are kept from build to build.
        """
        folder = writeable(cache_folder("tensorrt-timing"))
        kept = None if folder is None else folder / f"{trt.__version__}-{gpu}.cache"
        old = kept.read_bytes() if kept is not None and kept.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(old), ignore_mismatch=False)
        engine = builder.build_serialized_network(network, config)
        if engine is not None and kept is not None:
            write_file(kept, bytes(config.get_timing_cache().serialize()))
        return engine


class TensorRtRtxExporter(TensorRtExporter):
    """Builds ``stem.engine`` with TensorRT-RTX, for a GPU that need not be here.

    Its kernels are compiled when the engine is loaded, so there is nothing to time while it is
    built, and its timing cache is without effect.
    """

    runtime = "tensorrt-rtx"
    package = "tensorrt_rtx"
    title = "TensorRT-RTX"

    def _check_machine(self, gpu: str) -> None:
        """Any will do."""

    def _build(self, trt: Any, builder: Any, network: Any, config: Any, gpu: str) -> Any:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), 0)
        return builder.build_serialized_network(network, config)


def _parsed(parser: Any, onnx_path: Path) -> bool:
    """Whether the parser read the graph, with what it refuses said in another way."""
    try:
        model = ir.load(onnx_path)
    except DecodeError:  # the parser has words for it
        return bool(parser.parse_from_file(str(onnx_path)))
    if not multiply_scattered(model):
        return bool(parser.parse_from_file(str(onnx_path)))
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        changed = Path(scratch) / onnx_path.name
        save_onnx(model, changed)
        return bool(parser.parse_from_file(str(changed)))


def _config(trt: Any, builder: Any, options: ExportOptions) -> Any:
    """One optimization profile for the wanted shapes, and the limit of scratch memory."""
    config = builder.create_builder_config()
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.shapes:
        profile = builder.create_optimization_profile()
        for name, shape in options.shapes.items():
            profile.set_shape(name, shape.smallest, shape.typical, shape.largest)
        config.add_optimization_profile(profile)
    return config
