"""Fourier transforms along the axis that OpenVINO reads them with."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, stored
from onnx_ir.passes import common

from edgekit.errors import ExportError

__all__ = ["transform_first_axis"]

#: The axis that the operator had when it was an attribute and not given.
_FIRST = 1
#: The axis now when it is not given: the last but that of real and imaginary part.
_DEFAULT = -2
#: The operator set since which it is an input.
_SINCE = 20


def transform_first_axis(model: ir.Model) -> int:
    """Transpose around each DFT, so that it is along axis 1.

    Since operator set 20 the axis is an input, which OpenVINO 2026.4 does not look at: without a
    word it transforms along axis 1.

    Returns:
        How many transforms were along another axis.

    Raises:
        ExportError: the axis is computed, or the rank is unknown.
    """
    if model.opset_imports.get("", 0) < _SINCE:
        return 0
    found = [node for node in model.graph if node.op_type == "DFT" and not node.domain]
    if found:
        common.ShapeInferencePass()(model)
    return sum(_turn(model.graph, node) for node in found)


def _turn(graph: ir.Graph, node: ir.Node) -> bool:
    source, length, axis = (*node.inputs, None, None)[:3]
    given = stored(axis) if axis is not None else np.array(_DEFAULT)
    if source is None or source.shape is None or given is None:
        raise ExportError(
            "OpenVINO needs to know the axis of a DFT and the rank of its input beforehand",
            where=f"node {node.name!r}",
            fix="Give the axis as a constant, and the model's inputs their ranks",
        )
    rank = len(source.shape)
    chosen = int(given) % rank
    if chosen == _FIRST:
        return False
    perm = list(range(rank))
    perm[_FIRST], perm[chosen] = chosen, _FIRST
    result, name = node.outputs[0], str(node.outputs[0].name)
    turned = ir.node("Transpose", [source], {"perm": perm})
    first = add_constant(graph, f"{name}_axis", np.array(_FIRST, np.int64))
    moved = ir.node("DFT", [turned.outputs[0], length, first], node.attributes, name=node.name)
    back = ir.node("Transpose", moved.outputs, {"perm": perm})
    back.outputs[0].type, back.outputs[0].shape = result.type, result.shape
    graph.insert_before(node, [turned, moved, back])
    ir.convenience.replace_all_uses_with(result, back.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    for made, what in ((turned, "turned"), (moved, "transformed")):
        made.outputs[0].name = f"{name}_{what}"
    back.outputs[0].name = name
    return True
