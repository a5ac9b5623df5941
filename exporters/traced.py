"""Write what torch's ONNX converter stumbles over as what it can convert, in a traced program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, Node

__all__ = ["make_convertible"]

_ATEN = torch.ops.aten

#: Operators that the converter does not know, and others that compute the same: the first is what
#: torch._check_tensor_all calls.
_SYNONYMS = {_ATEN._is_all_true.default: _ATEN.all.default}  # noqa: SLF001, its public name


def make_convertible(program: torch.export.ExportedProgram) -> None:
    """Rewrite operators of the program in place; it computes the same."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function":
            node.target = _SYNONYMS.get(node.target, node.target)
            if node.target is _ATEN.rsub.Scalar:
                _float_minus_integers(graph, node)
            elif node.target is _ATEN.scaled_dot_product_attention.default:
                _attention_with_heads(graph, node)
    program.graph_module.recompile()


def _float_minus_integers(graph: Graph, node: Node) -> None:
    """``1.0 - mask`` of an integer mask, as ``mask * -1.0 + 1.0``.

    It is decomposed into a subtraction from a number, whose type the converter cannot promote.
    """
    subtracted, minuend, *scale = node.args
    assert isinstance(subtracted, Node)
    if scale or not isinstance(minuend, float) or subtracted.meta["val"].is_floating_point():
        return
    with graph.inserting_before(node):
        negated = _call(graph, node, _ATEN.mul.Tensor, subtracted, -1.0)
        result = _call(graph, node, _ATEN.add.Tensor, negated, minuend)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _attention_with_heads(graph: Graph, node: Node) -> None:
    """Attention of (.., length, size) without an axis of heads, as that of one head.

    The converter takes tensors of four axes only.
    """
    query, attention = node.args[0], node.target
    assert isinstance(query, Node)
    assert callable(attention)
    missing = 4 - query.meta["val"].ndim
    if missing < 0:
        _attention_plainly(graph, node)
    if missing <= 0:
        return
    with graph.inserting_before(node):

        def headed(given: Any) -> Any:
            """A mask of fewer axes than the rest is broadcast as it is."""
            if isinstance(given, Node) and given.meta["val"].ndim == 4 - missing:
                for _ in range(missing):
                    given = _call(graph, node, _ATEN.unsqueeze.default, given, -3)
            return given

        args = [headed(given) for given in node.args]
        kwargs = {name: headed(given) for name, given in node.kwargs.items()}
        result = _call(graph, node, attention, *args, **kwargs)
        for _ in range(missing):
            result = _call(graph, node, _ATEN.squeeze.dim, result, -3)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _attention_plainly(graph: Graph, node: Node) -> None:
    """Attention of (n, heads, blocks, length, size), say, as the products it is made of."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | node.kwargs
    query, key, value, mask = (given.get(name) for name in names[:4])
    assert isinstance(query, Node)
    size = query.meta["val"].shape[-1]
    if given.get("enable_gqa") or not isinstance(size, int):
        return

    def call(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
        return _call(graph, node, operator, *args, **kwargs)

    with graph.inserting_before(node):
        scaled = call(_ATEN.mul.Tensor, query, given.get("scale") or size**-0.5)
        scores = call(_ATEN.matmul.default, scaled, call(_ATEN.transpose.int, key, -2, -1))
        if given.get("is_causal"):
            mask = call(_ATEN.tril.default, call(_ATEN.ones_like.default, scores, dtype=torch.bool))
        if isinstance(mask, Node) and mask.meta["val"].dtype == torch.bool:
            hidden = call(_ATEN.logical_not.default, mask)
            scores = call(_ATEN.masked_fill.Scalar, scores, hidden, -math.inf)
        elif isinstance(mask, Node):
            scores = call(_ATEN.add.Tensor, scores, mask)
        weights = call(_ATEN.softmax.int, scores, -1)
        result = call(_ATEN.matmul.default, weights, value)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _call(graph: Graph, old: Node, operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    """A new operator in the place of an old one, with the type and shape of its own result."""
    node = graph.call_function(operator, args, kwargs)
    values = [one.meta["val"] if isinstance(one, Node) else one for one in args]
    named = {k: v.meta["val"] if isinstance(v, Node) else v for k, v in kwargs.items()}
    node.meta = {**old.meta, "val": operator(*values, **named)}
    return node
