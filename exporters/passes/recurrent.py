"""Plainer graphs around LSTM, GRU and RNN operators as PyTorch exports them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, read_instead

__all__ = ["simplify_recurrent"]

#: Input positions of the initial states.
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def simplify_recurrent(graph: ir.Graph) -> int:
    """Drop initial states of zeros, and moves of data that cancel out behind a recurrent operator.

    Returns:
        How many were found.
    """
    found = 0
    for node in list(graph):
        found += _drop_zero_states(node)
        found += _squeeze_directions(graph, node)
        found += _gather_before_transpose(graph, node)
    for node in list(graph):
        found += _last_state(graph, node)
    return found


def _drop_zero_states(node: ir.Node) -> bool:
    dropped = False
    for position in _STATES.get(node.op_type, ()):
        if position < len(node.inputs) and _is_zeros(node.inputs[position]):
            node.replace_input_with(position, None)
            dropped = True
    return dropped


def _is_zeros(value: ir.Value | None) -> bool:
    """An expanded (and perhaps sliced) constant zero."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in {"Expand", "Slice"}:
            return False
        value = node.inputs[0]
    return value is not None and not np.any(value.const_value.numpy())  # type: ignore[union-attr]


def _squeeze_directions(graph: ir.Graph, node: ir.Node) -> bool:
    """(steps, 1, batch, size) transposed and reshaped to (steps, batch, size): a Squeeze."""
    if node.op_type != "Reshape" or node.inputs[0] is None:
        return False
    transpose = node.inputs[0].producer()
    if transpose is None or transpose.op_type != "Transpose":
        return False
    perm, source = tuple(transpose.attributes.get_ints("perm", ())), transpose.inputs[0]
    recurrent = source.producer() if source is not None else None
    if perm != (0, 2, 1, 3) or recurrent is None or recurrent.op_type not in _STATES:
        return False
    shape, result = source.shape if source is not None else None, node.outputs[0]
    if shape is None or shape[1] != 1 or result.shape is None or len(result.shape) != 3:
        return False
    kept = (shape[0], shape[2], shape[3])
    same = [a == b for a, b in zip(result.shape, kept, strict=True)]
    other = [isinstance(a, int) and a != b for a, b in zip(result.shape, kept, strict=True)]
    if any(other) or sum(same) < 2:  # two dimensions determine the third
        return False
    if recurrent.attributes.get_int("layout", 0) != 0:
        return False
    axes = add_constant(graph, f"{result.name}_axes", np.array([1], np.int64))
    squeeze = ir.node("Squeeze", [source, axes], name=f"{node.name}_squeezed")
    return read_instead(graph, node, squeeze, "squeezed")


def _gather_before_transpose(graph: ir.Graph, node: ir.Node) -> bool:
    """Select one step first: a scalar Gather of a swapped pair of axes needs no Transpose."""
    if node.op_type != "Gather" or node.inputs[0] is None or node.inputs[1] is None:
        return False
    transpose, index = node.inputs[0].producer(), node.inputs[1]
    if transpose is None or transpose.op_type != "Transpose" or index.shape is None:
        return False
    perm = tuple(transpose.attributes.get_ints("perm", ()))
    if perm != (1, 0, 2) or len(index.shape) or node.attributes.get_int("axis", 0) != 1:
        return False
    gather = ir.node("Gather", [transpose.inputs[0], index], {"axis": 0}, name=f"{node.name}_first")
    return read_instead(graph, node, gather, "first")


def _last_state(graph: ir.Graph, node: ir.Node) -> bool:
    """The last step of all outputs is what a forward operator also returns as its last state."""
    if (
        node.op_type != "Gather"
        or node.inputs[0] is None
        or node.attributes.get_int("axis", 0) != 0
    ):
        return False
    result, squeeze = node.outputs[0], node.inputs[0].producer()
    if _constant(node, 1) != -1 or result.is_graph_output():
        return False
    if squeeze is None or squeeze.op_type != "Squeeze" or _constant(squeeze, 1) != [1]:
        return False
    source = squeeze.inputs[0]
    recurrent = source.producer() if source is not None else None
    if recurrent is None or source is not recurrent.outputs[0] or not _runs_forward(recurrent):
        return False
    state = recurrent.outputs[1] if len(recurrent.outputs) > 1 else None
    if source.shape is None or (state is not None and state.name and state.uses()):
        return False
    recurrent.resize_outputs(max(len(recurrent.outputs), 2))
    state = recurrent.outputs[1]
    state.name = state.name or f"{recurrent.name}_last_state"
    state.type, state.shape = result.type, ir.Shape(source.shape[1:])
    axes = add_constant(graph, f"{result.name}_axes", np.array([0], np.int64))
    first = ir.node("Squeeze", [state, axes], name=f"{node.name}_state")
    return read_instead(graph, node, first, "state")


def _constant(node: ir.Node, position: int) -> object:
    """A constant input as plain numbers; None when it is absent or computed."""
    value = node.inputs[position] if position < len(node.inputs) else None
    return (
        None if value is None or value.const_value is None else value.const_value.numpy().tolist()
    )


def _runs_forward(node: ir.Node) -> bool:
    """A recurrent operator over all steps in their order, steps first."""
    return (
        node.op_type in _STATES
        and node.attributes.get_string("direction", "forward") == "forward"
        and node.attributes.get_int("layout", 0) == 0
        and (len(node.inputs) <= 4 or node.inputs[4] is None)  # no sequence lengths
    )
