"""What TensorRT's parser and builder complain about, as one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions
from edgekit.exporters.graph import MODULE

from edgekit.engine_log import ErrorLog
from edgekit.errors import ExportError, UnsupportedGpuError, UnsupportedOperatorError

__all__ = ["build_error", "parse_error"]

#: Tell so many parser errors; one operator used everywhere would fill the screen.
_MOST = 4

_DATATYPES = {"b16": "bfloat16", "fp8_e4m3": "float8", "fp4_e2m1": "float4"}


def parse_error(parser: Any, onnx_path: Path, builder: str) -> ExportError:
    """All that the ONNX parser could not read, in one line.

    Returns:
        An :class:`UnsupportedOperatorError` where operators are missing, which names them and
        their PyTorch modules.
    """
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    modules = _modules(onnx_path) if all(error.node_name() for error in found) else {}
    missing = [error for error in found if _is_missing(error)]
    if missing:
        places = [modules.get(error.node_name(), "") for error in missing]
        return UnsupportedOperatorError(
            _listed([f"{e.node_operator()} (node {e.node_name()})" for e in missing]),
            _listed(list(dict.fromkeys(filter(None, places)))),
            builder,
        )
    told = [_told(error, modules) for error in found]
    return ExportError(
        f"{builder} cannot read the graph: {_listed(told, '; ')}",
        where=onnx_path.name,
        fix="Rewrite that, or leave this runtime out with --runtime",
    )


def build_error(
    log: ErrorLog, onnx_path: Path, options: ExportOptions, builder: str
) -> ExportError:
    """Why there is no engine, from the log; with the PyTorch module where a node is named.

    Returns:
        An :class:`UnsupportedGpuError` where another GPU generation would do.
    """
    text = log.first
    where = ", ".join(filter(None, [onnx_path.name, _place(text, _modules(onnx_path))]))
    if re.search(r"FP32 GEMM is not supported", text):
        return UnsupportedGpuError(
            str(options.gpu),
            "float32 matrix product",
            builder=builder,
            where=where,
            instead="fp16",
        )
    types = re.search(r"HW-specific datatypes: (\w+)", text)
    if types:
        return UnsupportedGpuError(
            str(options.gpu),
            f"{_DATATYPES.get(types[1], types[1])} arithmetic",
            builder=builder,
            where=where,
        )
    fix = "Rewrite the layer that it names, or leave this runtime out with --runtime"
    if re.search("workspace (limit|memory)", text):
        fix = "Raise --workspace, or leave it out"
    elif options.refit and "CUDA_SUCCESS" in text:
        text, fix = "a refittable engine is compiled on a GPU, and there is none", "Drop --refit"
    return ExportError(f"{builder} cannot build the network: {text}", where=where, fix=fix)


def _is_missing(error: Any) -> bool:
    """Whether the operator itself is unknown, rather than one use of it."""
    return "Plugin not found" in error.desc() or error.code().name == "UNSUPPORTED_NODE"


def _told(error: Any, modules: Mapping[str, str]) -> str:
    text = " ".join(error.desc().split()).removeprefix("Assertion failed: ")[:200]
    if not error.node_name():
        return text
    module = modules.get(error.node_name())
    place = f", module {module}" if module else ""
    return f"{error.node_operator()} (node {error.node_name()}{place}): {text}"


def _listed(entries: list[str], separator: str = ", ") -> str:
    more = f" and {len(entries) - _MOST} more" if len(entries) > _MOST else ""
    return separator.join(entries[:_MOST]) + more


def _modules(onnx_path: Path) -> dict[str, str]:
    """The PyTorch module of each node by the node's name, where the graph says."""
    graph = ir.load(onnx_path).graph
    return {
        str(node.name): node.metadata_props[MODULE]
        for node in graph
        if MODULE in node.metadata_props
    }


def _place(text: str, modules: Mapping[str, str]) -> str:
    """The module of the node that a builder's message names in quotes."""
    named = next((name for name in re.findall(r"'([^']+)'", text) if name in modules), None)
    return f"module {modules[named]}" if named else ""
