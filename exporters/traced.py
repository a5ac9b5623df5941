"""Write what torch's ONNX converter stumbles over as what it can convert, in a traced program."""

from __future__ import annotations

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
        negated = _call(graph, _ATEN.mul.Tensor, subtracted, -1.0)
        result = _call(graph, _ATEN.add.Tensor, negated, minuend)
    for made in (negated, result):
        made.meta = {**node.meta, "val": made.meta["val"]}
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _call(graph: Graph, operator: Callable[..., Any], first: Node, second: float) -> Node:
    """A new operator on a tensor and a number, with the type and shape of its result."""
    node = graph.call_function(operator, (first, second))
    node.meta["val"] = operator(first.meta["val"], second)
    return node
