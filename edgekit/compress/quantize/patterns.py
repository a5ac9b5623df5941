"""Sub-graphs that engines run as one kernel with the operator before them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import onnx_ir as ir

__all__ = ["fused_outputs"]


def fused_outputs(node: ir.Node, fused: AbstractSet[str]) -> list[ir.Value]:
    """The output of ``node`` and of the activation functions that the engine fuses behind it.

    Args:
        node: the operator whose result is followed.
        fused: operators and patterns (``SiLU``, ``HardSwish`` as x times its gate) to follow
            through. A tensor that something else reads, too, or that leaves the graph, ends it.
    """
    chain = [node.outputs[0]]
    while not chain[-1].is_graph_output():
        following = _fused_operator(chain[-1], fused) or _gated(chain[-1], fused)
        if following is None:
            break
        chain.append(following)
    return chain


def _fused_operator(value: ir.Value, fused: AbstractSet[str]) -> ir.Value | None:
    users = value.consumers()
    return users[0].outputs[0] if len(users) == 1 and users[0].op_type in fused else None


#: The gate g of ``x * g(x)``, by the name of the whole.
_GATES: dict[str, Callable[[ir.Node], bool]] = {
    "SiLU": lambda node: node.op_type == "Sigmoid",
    "HardSwish": lambda node: node.op_type == "HardSigmoid",
}


def _gated(value: ir.Value, fused: AbstractSet[str]) -> ir.Value | None:
    """The result of ``x * g(x)`` when ``value`` is its x and feeds nothing else."""
    users = value.consumers()
    if len(users) != 2:
        return None
    gates = [u for u in users if any(n in fused and is_gate(u) for n, is_gate in _GATES.items())]
    products = [user for user in users if user.op_type == "Mul"]
    if len(gates) != 1 or len(products) != 1 or gates[0].outputs[0].is_graph_output():
        return None
    gate, product = gates[0], products[0]
    alone = len(gate.outputs[0].consumers()) == 1
    return product.outputs[0] if alone and gate.outputs[0] in product.inputs else None
