"""ONNX to a TensorRT-RTX engine, built for a GPU that this machine need not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.sparse_weights import has_two_of_four

from edgekit.errors import ExportError, UnsupportedOperatorError, nearest

__all__ = ["GPU_TARGETS", "TensorRtExporter", "check_gpu"]

#: GPUs an engine can be cross-built for, by compute capability.
GPU_TARGETS: tuple[str, ...] = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


def check_gpu(gpu: str) -> str:
    """``gpu`` in lower case, when it names a GPU generation the builder knows.

    Raises:
        ExportError: it does not.
    """
    name = gpu.lower().replace("_", "")
    if name in GPU_TARGETS:
        return name
    guess = nearest(name, GPU_TARGETS)
    hint = f", did you mean {guess!r}" if guess else ""
    raise ExportError(
        f"unknown GPU target {gpu!r}{hint}", fix=f"Choose from {', '.join(GPU_TARGETS)}"
    )


class TensorRtExporter:
    """Builds ``stem.engine``; Q/DQ pairs make the layers between them int8.

    Where weights are 2:4, the builder may choose kernels that skip the zeros.
    """

    format: Format = "tensorrt-engine"
    newest_opset = 20  # TensorRT-RTX 1.1
    needs_gpu_target = True
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        try:
            import tensorrt_rtx as trt  # heavy and optional
        except ImportError as error:
            raise ExportError(
                "tensorrt-rtx is not installed", fix="Run: pip install 'edgekit[tensorrt-rtx]'"
            ) from error
        log = _Log(trt)
        builder = trt.Builder(log.logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log.logger)
        if not parser.parse_from_file(str(onnx_path)):
            raise _parse_error(parser, onnx_path)
        config = _config(trt, builder, options)
        if has_two_of_four(ir.load(onnx_path)):
            config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)  # lets the builder choose, no more
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ExportError(
                f"TensorRT-RTX cannot build the network: {log.last or 'no reason given'}",
                where=onnx_path.name,
                fix="Leave tensorrt-rtx out with --runtime, or rewrite the layer it names",
            )
        path = stem.with_suffix(".engine")
        path.write_bytes(engine)
        return [path]


def _config(trt: Any, builder: Any, options: ExportOptions) -> Any:
    """Build for the wanted GPU, which need not be here, and for the wanted shapes."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    capability = getattr(trt.ComputeCapability, check_gpu(options.gpu or "").upper())
    config.set_compute_capability(capability, 0)
    if options.shapes:
        profile = builder.create_optimization_profile()
        for name, shape in options.shapes.items():
            profile.set_shape(name, shape.smallest, shape.typical, shape.largest)
        config.add_optimization_profile(profile)
    return config


class _Log:
    """Keeps the builder's errors, which it would print to the terminal, for the message."""

    def __init__(self, trt: Any) -> None:
        self.last = ""
        outer = self

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                    outer.last = " ".join(message.split())[:300]

        self.logger = Logger()


def _parse_error(parser: Any, onnx_path: Path) -> ExportError:
    error = parser.get_error(0)
    text = " ".join(str(error.desc()).split())
    missing = re.search(r"(?:No importer registered for op|Unsupported op\w*):?\s*(\w+)", text)
    if missing:
        return UnsupportedOperatorError(missing[1], str(error.node_name()), "TensorRT")
    return ExportError(
        f"TensorRT-RTX cannot read the graph: {text[:300]}",
        where=f"{onnx_path.name}, node {error.node_name()}",
        fix="Leave tensorrt-rtx out with --runtime, or rewrite that node",
    )
