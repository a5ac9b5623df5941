"""Fewer reshapes: those that change nothing, and two in a row as one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import (
    add_constant,
    bypass,
    producer,
    remove_unread,
    same_dims,
    stored,
    take_place,
)
from edgekit.exporters.passes.static_shapes import target_shape

__all__ = ["simplify_reshapes"]

#: Operators that change a tensor's shape, and neither its values nor their order.
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def simplify_reshapes(graph: ir.Graph) -> int:
    """Drop reshapes to the shape that is there already, and make two in a row one.

    Sizes need not be known: dimensions of one name are equal. Beside a Transpose reshapes stay
    two, since fusions of attention look for them.

    Returns:
        How many operators were removed.
    """
    return sum(
        _drop(graph, node) or _join(graph, node)
        for node in list(graph)
        if node.op_type in _RESHAPES and not node.domain and node.graph is graph
    )


def _drop(graph: ir.Graph, node: ir.Node) -> bool:
    """Read instead what the tensor was before it was given another shape and this one again."""
    before, result = node.inputs[0], node.outputs[0]
    while before is not None:
        if same_dims(before.shape, result.shape) and bypass(result, before):
            first = _reshape(node.inputs[0])
            graph.remove(node, safe=True)
            if first is not None:
                remove_unread(graph, first)
            return True
        node_before = _reshape(before)
        before = node_before.inputs[0] if node_before is not None else None
    return False


def _join(graph: ir.Graph, node: ir.Node) -> bool:
    first, result = _reshape(node.inputs[0]), node.outputs[0]
    if first is None or len(first.outputs[0].uses()) != 1 or first.outputs[0].is_graph_output():
        return False
    source = first.inputs[0]
    beside = any(user.op_type == "Transpose" for user in result.consumers())
    if source is None or beside or producer(source, "Transpose"):
        return False
    target = _told(node) or target_shape(source.shape, result.shape)
    if target is None:
        return False
    shape = add_constant(graph, f"{result.name}_shape", np.array(target, np.int64))
    take_place(graph, node, ir.node("Reshape", [source, shape], name=f"{node.name}_joined"))
    graph.remove(first, safe=True)
    return True


def _reshape(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in _RESHAPES and not node.domain else None


def _told(node: ir.Node) -> list[int] | None:
    """The target of a Reshape that copies no dimension of its input: it is true for any input."""
    target = stored(node.inputs[1]) if node.op_type == "Reshape" else None
    return None if target is None or 0 in target else target.tolist()
