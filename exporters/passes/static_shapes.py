"""Constant target shapes for Reshape, where shape inference knows them well enough."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, read_instead

__all__ = ["plain_pooling", "static_reshapes", "target_shape"]


def plain_pooling(graph: ir.Graph) -> int:
    """Write the mean over the last two axes of a 4-D tensor as GlobalAveragePool.

    Engines have integer kernels for the one and not for the other.

    Returns:
        How many were replaced.
    """
    replaced = 0
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "ReduceMean" else None
        if source is None or source.shape is None or len(source.shape) != 4:
            continue
        if source.dtype is None or not source.dtype.is_floating_point():
            continue
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        chosen: list[int] = (
            axes.const_value.numpy().tolist() if axes is not None and axes.const_value else []
        )
        kept = node.attributes.get_int("keepdims", 1) == 1
        if sorted(axis % 4 for axis in chosen) != [2, 3] or not kept:
            continue
        if node.outputs[0].is_graph_output():
            continue
        pool = ir.node("GlobalAveragePool", [source], name=f"{node.name}_pool")
        replaced += read_instead(graph, node, pool, "pool")
    return replaced


def static_reshapes(graph: ir.Graph) -> int:
    """Replace computed target shapes by constants.

    Exporters compute the target of a dynamic Reshape with Shape, Slice and Concat operators, which
    cost more than the Reshape itself. A dimension that is the input's at the same place becomes 0
    (copy it), and one other unknown dimension may be -1.

    Returns:
        How many Reshape operators have a constant shape now that had none.
    """
    changed = 0
    for node in graph:
        if node.op_type == "Reshape" and node.inputs[1] is not None:
            target = _target(node) if node.inputs[1].const_value is None else None
            if target is not None:
                name = f"{node.outputs[0].name}_shape"
                node.replace_input_with(1, add_constant(graph, name, np.array(target, np.int64)))
                node.attributes.pop("allowzero", None)  # unknown before opset 14; 0 when absent
                changed += 1
    return changed


def _target(node: ir.Node) -> list[int] | None:
    source = node.inputs[0]
    return None if source is None else target_shape(source.shape, node.outputs[0].shape)


def target_shape(before: ir.Shape | None, after: ir.Shape | None) -> list[int] | None:
    """What a Reshape from one shape to the other has to be told; None where that is not known."""
    if before is None or after is None or any(dim == 0 for dim in (*before, *after)):
        return None
    target = []
    for index, dim in enumerate(after):
        if isinstance(dim, int):
            target.append(dim)
        elif index < len(before) and dim.value is not None and before[index] == dim:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
