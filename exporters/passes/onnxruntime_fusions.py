"""Operators of ONNX Runtime's own that its optimizer does not find, or should not have found."""

from __future__ import annotations

import onnx_ir as ir
from edgekit.exporters.graph import read_instead

__all__ = ["fuse_integer_products", "keep_norms_apart"]

_BYTES = {ir.DataType.INT8, ir.DataType.UINT8}


def fuse_integer_products(graph: ir.Graph) -> int:
    """Write a quantized MatMul and the bias behind it as ``com.microsoft.MatMulIntegerToFloat``.

    ONNX Runtime turns the Q/DQ form into the same operator, but leaves the bias an addition of its
    own: one more pass over the result for every linear layer.

    Returns:
        How many were replaced.
    """
    fused = 0
    for node in list(graph):
        inputs = _integer_product(node)
        if inputs is None:
            continue
        users = node.outputs[0].consumers()
        added = users[0] if len(users) == 1 and users[0].op_type == "Add" else None
        bias = _bias(added, node) if added is not None else None
        last = added if added is not None and bias is not None else node
        if last.outputs[0].is_graph_output():
            continue
        product = ir.node(
            "MatMulIntegerToFloat",
            [*inputs, bias] if bias is not None else inputs,
            domain="com.microsoft",
            name=f"{node.name}_integer",
        )
        fused += read_instead(graph, last, product, "integer")
    if fused:
        graph.opset_imports.setdefault("com.microsoft", 1)
    return fused


def _integer_product(node: ir.Node) -> list[ir.Value | None] | None:
    """A, B, their scales and zero points, when both sides of a MatMul are dequantized."""
    if node.op_type != "MatMul":
        return None
    sides = [value.producer() if value is not None else None for value in node.inputs]
    left, right = sides
    if left is None or right is None or {left.op_type, right.op_type} != {"DequantizeLinear"}:
        return None
    steps, weight = left.inputs[0], right.inputs[0]
    scale = left.inputs[1]
    if steps is None or weight is None or weight.const_value is None or len(left.inputs) != 3:
        return None
    per_column = right.attributes.get_int("axis", 1) == 1 and len(weight.const_value.shape) == 2
    if scale is None:
        return None
    per_tensor = scale.shape is not None and len(scale.shape) == 0
    if not per_column or not per_tensor or right.attributes.get_int("block_size", 0) != 0:
        return None
    if not {steps.dtype, weight.const_value.dtype} <= _BYTES or scale.dtype != ir.DataType.FLOAT:
        return None
    zero = right.inputs[2] if len(right.inputs) == 3 else None
    return [steps, weight, scale, right.inputs[1], left.inputs[2], zero]


def _bias(added: ir.Node, product: ir.Node) -> ir.Value | None:
    """The constant that ``added`` adds to ``product``, one number a column of its weight."""
    other = added.inputs[1] if added.inputs[0] is product.outputs[0] else added.inputs[0]
    weight = product.inputs[1]
    if other is None or other.const_value is None or weight is None or weight.shape is None:
        return None
    return other if list(other.const_value.shape) == [weight.shape[-1]] else None


def keep_norms_apart(graph: ir.Graph) -> int:
    """Write ``x + y`` before a LayerNormalization as ``Sum``, which ONNX Runtime does not fuse.

    Its fused SkipLayerNormalization is not vectorized on the CPU: measured with 1.31 on 64 rows of
    384, one takes 118 us where the addition and the normalization take 30 us together.

    Returns:
        How many were written so.
    """
    changed = 0
    for node in list(graph):
        value = node.inputs[0] if node.op_type == "LayerNormalization" else None
        added = value.producer() if value is not None else None
        if added is None or added.op_type != "Add" or added.outputs[0].is_graph_output():
            continue
        total = ir.node("Sum", added.inputs, name=f"{added.name}_sum")
        changed += read_instead(graph, added, total, "sum")
    return changed
