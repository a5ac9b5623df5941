"""Plainer graphs for attention as PyTorch exports it, and its fusion for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import (
    add_constant,
    bypass,
    permutation,
    producer,
    read_instead,
    same_dims,
    scalar,
    stored,
)

__all__ = ["fuse_attention", "simplify_attention"]

_SPLIT_HEADS = (0, 2, 1, 3)
_SPLIT_HEADS_KEY = (0, 2, 3, 1)


def simplify_attention(graph: ir.Graph) -> int:
    """Remove what ``scaled_dot_product_attention`` leaves behind when it is exported.

    * ``Where(IsNaN(p), 0, p)`` after a softmax whose mask is finite: ``p`` cannot be NaN.
    * a mask that lets everything through.
    * the transposed key as reshape to 3-D, transpose, reshape to 4-D.
    * the scale, which is multiplied into the projections of query and key instead.

    Returns:
        How many of these were found.
    """
    steps = (_drop_nan_guard, _drop_open_mask, _plain_key_transpose, _absorb_scale)
    return sum(step(graph, node) for node in list(graph) for step in steps)


def _drop_nan_guard(_: ir.Graph, node: ir.Node) -> bool:
    if node.op_type != "Where" or len(node.inputs) != 3:
        return False
    softmax = producer(node.inputs[2], "Softmax")
    guard = producer(node.inputs[0], "IsNaN")
    if softmax is None or guard is None or guard.inputs[0] is not node.inputs[2]:
        return False
    if scalar(node.inputs[1]) != 0.0 or not _finite_mask(softmax.inputs[0]):
        return False
    return bypass(node.outputs[0], softmax.outputs[0])


def _finite_mask(scores: ir.Value | None) -> bool:
    """Whether ``scores`` is products alone, or products plus a mask of finite numbers."""
    added = producer(scores, "Add")
    if added is None:
        return producer(scores, "MatMul") is not None
    parts = [producer(value, "Where") for value in added.inputs]
    masks = [mask for mask in parts if mask is not None]
    products = [value for value in added.inputs if producer(value, "MatMul") is not None]
    if len(masks) != 1 or len(products) != 1:
        return False
    values = [scalar(value) for value in masks[0].inputs[1:]]
    return all(value is not None and np.isfinite(value) for value in values)


def _drop_open_mask(_: ir.Graph, node: ir.Node) -> bool:
    """``scores + Where(expand(all true), 0, x)`` is ``scores``."""
    if node.op_type != "Add":
        return False
    for position in (0, 1):
        mask, other = producer(node.inputs[position], "Where"), node.inputs[1 - position]
        if mask is None or scalar(mask.inputs[1]) != 0.0 or other is None:
            continue
        expand = producer(mask.inputs[0], "Expand")
        allowed = stored(expand.inputs[0] if expand is not None else mask.inputs[0])
        same = same_dims(node.outputs[0].shape, other.shape)
        if allowed is not None and allowed.dtype == bool and allowed.all() and same:
            return bypass(node.outputs[0], other)
    return False


def _plain_key_transpose(graph: ir.Graph, node: ir.Node) -> bool:
    """Reshape (3-D), Transpose (0, 2, 1), Reshape (4-D) of a 4-D tensor: swap its last two axes."""
    inner = producer(node.inputs[0], "Transpose") if node.op_type == "Reshape" else None
    first = producer(inner.inputs[0], "Reshape") if inner is not None else None
    if inner is None or first is None or permutation(inner) != (0, 2, 1):
        return False
    source, result = first.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is None or len(source.shape) != 4:
        return False
    wanted = [source.shape[axis] for axis in (0, 1, 3, 2)]
    moved = inner.outputs[0].shape
    if not same_dims(result.shape, wanted) or result.is_graph_output():
        return False
    if moved is None or not same_dims(moved[1:], wanted[2:]):  # the heads were cut elsewhere
        return False
    before = producer(source, "Transpose")
    perm: Sequence[int] = (0, 1, 3, 2)
    if before is not None and permutation(before) == _SPLIT_HEADS and before.inputs[0] is not None:
        source, perm = before.inputs[0], _SPLIT_HEADS_KEY
    transpose = ir.node("Transpose", [source], {"perm": list(perm)}, name=f"{node.name}_swapped")
    return read_instead(graph, node, transpose, "swapped")


def _absorb_scale(graph: ir.Graph, node: ir.Node) -> bool:
    """``(x W + b) * c``, moved through reshapes, as ``x (c W) + c b``."""
    factor = scalar(node.inputs[1]) if node.op_type == "Mul" else None
    reader = node.outputs[0].consumers()
    if factor is None or len(reader) != 1 or reader[0].op_type != "MatMul":
        return False
    if node.outputs[0].is_graph_output():  # it stays, and would scale a second time
        return False
    linear = _projection(node.inputs[0])
    if linear is None:
        return False
    product, add, bias_position = linear
    weight, bias = stored(product.inputs[1]), stored(add.inputs[bias_position])
    assert weight is not None
    assert bias is not None
    for target, position, array in ((product, 1, weight), (add, bias_position, bias)):
        name = f"{target.inputs[position].name}_scaled_{node.name}"  # type: ignore[union-attr]
        scaled = add_constant(graph, name, (array * factor).astype(array.dtype))
        target.replace_input_with(position, scaled)
    assert node.inputs[0] is not None
    return bypass(node.outputs[0], node.inputs[0])


def _projection(value: ir.Value | None) -> _Projection | None:
    """MatMul and bias Add that alone make ``value`` through reshapes, and the bias's position."""
    while value is not None:
        node = value.producer()
        if node is None or not _read_once(value):
            return None
        if node.op_type == "Add":
            for position in (0, 1):
                product = producer(node.inputs[1 - position], "MatMul")
                if product is None or stored(node.inputs[position]) is None:
                    continue
                alone = _read_once(product.outputs[0])
                constant = stored(product.inputs[1]) is not None
                return _Projection(product, node, position) if alone and constant else None
            return None
        if node.op_type not in {"Reshape", "Transpose"}:
            return None
        value = node.inputs[0]
    return None


def _read_once(value: ir.Value) -> bool:
    """Whether one operator alone sees the tensor."""
    return len(value.uses()) == 1 and not value.is_graph_output()


class _Projection(NamedTuple):
    """A linear layer with constants: ``product + bias``.

    Attributes:
        product: the MatMul; its weight is input 1, shape ``(inputs, outputs)``.
        add: the Add behind it.
        position: which input of ``add`` is the bias.
    """

    product: ir.Node
    add: ir.Node
    position: int


@dataclass(frozen=True, slots=True)
class _Heads:
    """One multi-head attention: tensors of shape ``(batch, sequence, heads * size)``."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value | None
    heads: int
    result: ir.Value


def fuse_attention(graph: ir.Graph) -> int:
    """Replace simplified attention by ONNX Runtime's ``com.microsoft.MultiHeadAttention``.

    Its CPU kernel reads the heads where the projections left them: no transposes, no scores in
    memory between the operators. Other engines find such patterns themselves.

    Returns:
        How many were replaced.
    """
    found = [heads for node in graph if (heads := _match(node)) is not None]
    for heads in found:
        inputs = [heads.query, heads.key, heads.value, None, None, heads.mask]
        node = ir.node(
            "MultiHeadAttention",
            inputs if heads.mask is not None else inputs[:3],
            {"num_heads": heads.heads, "scale": 1.0},
            domain="com.microsoft",
            name=f"{heads.result.name}_attention",
        )
        producer = heads.result.producer()
        assert producer is not None
        node.outputs[0].type, node.outputs[0].shape = heads.result.type, heads.result.shape
        node.outputs[0].name = f"{heads.result.name}_attended"
        node.metadata_props.update(producer.metadata_props)
        graph.insert_before(producer, node)
        ir.convenience.replace_all_uses_with(heads.result, node.outputs[0])
    if found:
        graph.opset_imports.setdefault("com.microsoft", 1)
    return len(found)


def _match(node: ir.Node) -> _Heads | None:
    """The attention whose last operator (the Reshape that joins the heads) is ``node``."""
    joined = _transposed(node.inputs[0], _SPLIT_HEADS) if node.op_type == "Reshape" else None
    product = producer(joined, "MatMul")
    softmax = producer(product.inputs[0], "Softmax") if product is not None else None
    if product is None or softmax is None or softmax.attributes.get_int("axis", -1) not in {-1, 3}:
        return None
    scores, mask = softmax.inputs[0], None
    added = producer(scores, "Add")
    if added is not None:
        which = 0 if producer(added.inputs[0], "MatMul") is not None else 1
        scores, mask = added.inputs[which], added.inputs[1 - which]
    inner = producer(scores, "MatMul")
    if inner is None or node.outputs[0].is_graph_output() or not _fits(mask, inner.outputs[0]):
        return None
    query, key, value = (
        _heads(inner.inputs[0], _SPLIT_HEADS),
        _heads(inner.inputs[1], _SPLIT_HEADS_KEY),
        _heads(product.inputs[1], _SPLIT_HEADS),
    )
    if query is None or key is None or value is None or not query[1] == key[1] == value[1]:
        return None
    joins, split = node.outputs[0], value[0].shape
    batches = [shape[:1] for one in (query, key, value) if (shape := one[0].shape) is not None]
    if not all(same_dims(batches[0], other) for other in batches):  # a product would widen them
        return None
    if joins.shape is None or split is None or not same_dims(joins.shape[2:], split[2:]):
        return None
    if joins.dtype != ir.DataType.FLOAT:  # the kernel knows no other type on the CPU
        return None
    return _Heads(query[0], key[0], value[0], mask, query[1], node.outputs[0])


def _fits(mask: ir.Value | None, scores: ir.Value) -> bool:
    """Whether MultiHeadAttention takes the mask, which may only be widened over batch and heads."""
    if mask is None:
        return True
    if mask.shape is None or scores.shape is None or len(mask.shape) != 4:
        return False
    wide = all(mask.shape[a] == 1 or same_dims([mask.shape[a]], [scores.shape[a]]) for a in (0, 1))
    return wide and same_dims(mask.shape[2:], scores.shape[2:])


def _heads(value: ir.Value | None, perm: tuple[int, ...]) -> tuple[ir.Value, int] | None:
    """The 3-D tensor that was split into heads, and how many."""
    split = producer(_transposed(value, perm), "Reshape")
    if split is None or split.inputs[0] is None or split.inputs[0].shape is None:
        return None
    shape = split.outputs[0].shape
    if shape is None or len(shape) != 4 or len(split.inputs[0].shape) != 3:
        return None
    if not same_dims(shape[:2], split.inputs[0].shape[:2]):
        return None
    return (split.inputs[0], shape[2]) if isinstance(shape[2], int) else None


def _transposed(value: ir.Value | None, perm: tuple[int, ...]) -> ir.Value | None:
    """What ``value`` is the transpose of, if it was permuted so."""
    node = producer(value, "Transpose")
    return node.inputs[0] if node is not None and permutation(node) == perm else None
