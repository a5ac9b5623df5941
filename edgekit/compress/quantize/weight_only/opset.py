"""Bring a graph to a newer operator set, in place."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.errors import CompressError

__all__ = ["raise_opset"]

#: The first operator set with int4, blocked DequantizeLinear and their file format.
BLOCKED = 21
_IR_VERSION = 10


def raise_opset(model: ir.Model, version: int = BLOCKED) -> None:
    """Convert ``model`` to at least that operator set; nothing happens when it is as new.

    Nodes are replaced: hold none of before.

    Raises:
        CompressError: an operator cannot be converted.
    """
    model.ir_version = max(model.ir_version, _IR_VERSION)
    imports = model.graph.opset_imports
    if imports.get("", imports.get("ai.onnx", 0)) >= version:
        return
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), version)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise CompressError(
            f"cannot be converted to opset {version}: {str(error).splitlines()[0][:200]}",
            where="weight-only",
            fix=f"Export the model with opset {version}",
        ) from error
    converted = ir.from_proto(proto)
    common.ShapeInferencePass()(converted)
    model.graph = converted.graph
