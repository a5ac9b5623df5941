"""Constant target shapes for Reshape, where shape inference knows them well enough."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant

__all__ = ["static_reshapes"]


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
    before, after = node.inputs[0].shape if node.inputs[0] else None, node.outputs[0].shape
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
