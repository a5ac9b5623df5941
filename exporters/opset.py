"""ONNX operator sets: which a runtime reads, and bringing a graph to a newer one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from edgekit.exporters.graph import MODULE
from edgekit.exporters.save import save_onnx
from onnx_ir.passes import common

from edgekit.errors import ExportError

__all__ = ["BLOCKED", "OLDEST", "opset_of", "raise_opset", "raised_file"]

#: The first operator set whose DequantizeLinear has a per-channel axis.
OLDEST = 13
#: The first operator set with int4, blocked DequantizeLinear and their file format.
BLOCKED = 21
_IR_VERSION = 10


def opset_of(imports: Mapping[str, int]) -> int:
    """The operator set of the standard domain, which has two names; 0 for none."""
    return imports.get("", imports.get("ai.onnx", 0))


def raise_opset(model: ir.Model, version: int = BLOCKED) -> None:
    """Convert ``model`` to at least that operator set; nothing happens when it is as new.

    Nodes are replaced: hold none of before.

    Raises:
        ExportError: an operator cannot be converted.
    """
    if version >= BLOCKED:
        model.ir_version = max(model.ir_version, _IR_VERSION)
    if opset_of(model.graph.opset_imports) >= version:
        return
    modules = {node.name: node.metadata_props.get(MODULE) for node in model.graph}
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), version)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise ExportError(
            f"cannot be converted to opset {version}: {str(error).splitlines()[0][:200]}",
            where="graph",
            fix=f"Export the model with opset {version}",
        ) from error
    converted = ir.from_proto(proto)
    common.ShapeInferencePass()(converted)
    for node in converted.graph:
        module = modules.get(node.name)
        if module is not None:
            node.metadata_props[MODULE] = module
    model.graph = converted.graph


def raised_file(onnx: Path, opset: int | None, work: Path) -> Path:
    """The graph of a file in at least that operator set.

    Args:
        onnx: the file; it stays as it is.
        opset: None for as it is.
        work: a folder for the file that is written where it was not as new.

    Raises:
        ExportError: an operator cannot be converted.
    """
    if opset is None:
        return onnx
    model = ir.load(onnx)
    if opset_of(model.opset_imports) >= opset:
        return onnx
    raise_opset(model, opset)
    path = work / f"{onnx.stem}-opset{opset}.onnx"
    save_onnx(model, path)
    return path
