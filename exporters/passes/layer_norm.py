"""LayerNormalization written as single operators, as the one that engines have a kernel for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, private, producer, scalar, stored, take_place

from edgekit.spec import Array

__all__ = ["fuse_layer_norm"]

#: The first operator set with LayerNormalization.
_OPSET = 17


class _Normalized(NamedTuple):
    """Operators that compute ``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)``."""

    x: ir.Value
    size: int
    epsilon: float
    nodes: list[ir.Node]


def fuse_layer_norm(graph: ir.Graph) -> int:
    """Replace the normalization of the last axis, and the scale and the bias behind it.

    The size of that axis has to be known. Scale and bias are constants; each may be absent. Engines
    fuse the formula, too, and measured there is no gain in time. But SmoothQuant moves its factors
    into the scale, and half precision leaves the variance float, only where they see the operator.

    Returns:
        How many were replaced.
    """
    if graph.opset_imports.get("", 0) < _OPSET:
        return 0
    found = [(node, match) for node in graph if (match := _normalized(node)) is not None]
    return sum(_fuse(graph, node, match) for node, match in found)


def _fuse(graph: ir.Graph, node: ir.Node, match: _Normalized) -> bool:
    kind = match.x.dtype
    assert kind is not None
    last, rows = node, [np.ones(match.size, kind.numpy()), None]
    for place, op in enumerate(("Mul", "Add")):
        users = last.outputs[0].consumers()
        following = users[0] if len(users) == 1 and users[0].op_type == op else None
        row = _row(following, last.outputs[0], match.size) if following is not None else None
        if following is not None and row is not None:
            match.nodes.append(following)
            last, rows[place] = following, row
    result = last.outputs[0]
    if not private(match.nodes, result):
        return False
    constants = [
        add_constant(graph, f"{result.name}_{label}", row.astype(kind.numpy()))
        for label, row in zip(("scale", "bias"), rows, strict=True)
        if row is not None
    ]
    made = ir.node(
        "LayerNormalization",
        [match.x, *constants],
        {"axis": -1, "epsilon": match.epsilon},
        name=f"{node.name}_normalized",
    )
    take_place(graph, last, made)
    return True


def _normalized(node: ir.Node) -> _Normalized | None:
    """What ``node`` is the quotient of, if it ends such a normalization."""
    difference = producer(node.inputs[0], "Sub") if node.op_type == "Div" else None
    root = producer(node.inputs[1], "Sqrt") if difference is not None else None
    shifted = producer(root.inputs[0], "Add") if root is not None else None
    if difference is None or root is None or shifted is None:
        return None
    x, center = difference.inputs[0], producer(difference.inputs[1], "ReduceMean")
    if x is None or center is None or center.inputs[0] is not x or not _of_last_axis(center, x):
        return None
    constants = [scalar(value) for value in shifted.inputs]
    spread = next((v for v, c in zip(shifted.inputs, constants, strict=True) if c is None), None)
    variance = producer(spread, "ReduceMean")
    square = variance.inputs[0].producer() if variance and variance.inputs[0] else None
    epsilon = next((c for c in constants if c is not None), None)
    if variance is None or square is None or epsilon is None or not _of_last_axis(variance, x):
        return None
    if not _squares(square, difference.outputs[0]):
        return None
    size = x.shape[-1] if x.shape else None
    if not isinstance(size, int) or x.dtype is None:
        return None
    return _Normalized(
        x, size, epsilon, [node, root, shifted, variance, square, difference, center]
    )


def _of_last_axis(node: ir.Node, x: ir.Value) -> bool:
    """Whether a ReduceMean is over the last axis of ``x`` only, which stays with size 1."""
    given = stored(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes", ()) if given is None else given.tolist()
    rank = len(x.shape) if x.shape is not None else 0
    return tuple(axes) in {(-1,), (rank - 1,)} and node.attributes.get_int("keepdims", 1) == 1


def _squares(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type == "Mul":
        return all(operand is value for operand in node.inputs)
    return node.op_type == "Pow" and node.inputs[0] is value and scalar(node.inputs[1]) == 2.0


def _row(node: ir.Node, value: ir.Value, size: int) -> Array | None:
    """The constant operand of ``node``, as one number for each place of the last axis."""
    array = stored(node.inputs[1] if node.inputs[0] is value else node.inputs[0])
    rank = len(value.shape) if value.shape is not None else 0
    if array is None or array.ndim > rank or array.size not in {1, size}:
        return None
    if array.size > 1 and array.shape[-1] != size:
        return None
    return np.broadcast_to(array.reshape(-1), (size,))
