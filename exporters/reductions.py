"""Reductions that OpenVINO cannot fuse what quantizes their results with."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import ELEMENTWISE, add_constant, stored, take_place

from edgekit.spec import Array

__all__ = ["part_reductions"]

_REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
     "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"}
)  # fmt: skip
#: Those that are computed wrongly even when the reduced axes stay: in the integers that come out.
_IN_INTEGERS = frozenset({"ReduceMax", "ReduceMin"})
#: The operator set since which Squeeze and Unsqueeze read their axes.
_SINCE = 13


def part_reductions(model: ir.Model) -> int:
    """Put an axis between each reduction and the quantization of its result.

    OpenVINO 2026.4's CPU plugin fuses a reduction with the elementwise operators and the
    quantization behind it. Where the reduced axes go, per-channel constants are then taken along
    the wrong axis; and the largest or least of float numbers is found among numbers that were
    rounded already. What such a reduction squeezes, Squeeze does here, and the other way around:
    a change of shape ends the fusion, and costs nothing.

    Returns:
        How many were parted.
    """
    if model.opset_imports.get("", 0) < _SINCE:
        return 0
    return sum(
        _part(model.graph, node)
        for node in list(model.graph)
        if node.op_type in _REDUCTIONS and not node.domain and _is_quantized(node.outputs[0])
    )


def _is_quantized(value: ir.Value) -> bool:
    """Whether a QuantizeLinear reads it, directly or behind elementwise operators."""
    return any(
        node.op_type == "QuantizeLinear"
        or (
            node.op_type in ELEMENTWISE
            and all(other in {value, None} or stored(other) is not None for other in node.inputs)
            and _is_quantized(node.outputs[0])
        )
        for node in value.consumers()
    )


def _part(graph: ir.Graph, node: ir.Node) -> bool:
    keep = node.attributes.get_int("keepdims", 1)
    axes = _axes(node)
    if axes is None or (keep and node.op_type not in _IN_INTEGERS):
        return False
    name = node.outputs[0].name
    reduced = ir.node(node.op_type, node.inputs, node.attributes, name=f"{node.name}_parted")
    reduced.attributes["keepdims"] = ir.AttrInt64("keepdims", 1 - keep)
    reduced.outputs[0].name = f"{name}_parted"
    reduced.metadata_props.update(node.metadata_props)
    given = add_constant(graph, f"{name}_axes", axes)
    shape = ir.node("Unsqueeze" if keep else "Squeeze", [*reduced.outputs, given], name=node.name)
    graph.insert_before(node, reduced)
    take_place(graph, node, shape)
    return True


def _axes(node: ir.Node) -> Array | None:
    """The axes that are reduced; None where they are computed or not named."""
    named = node.attributes.get_ints("axes", None)
    if named is not None:
        return np.array(named, np.int64)
    return stored(node.inputs[1]) if len(node.inputs) > 1 else None
