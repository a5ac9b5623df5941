"""Where Q/DQ pairs go, one declarative table for each engine, and the plan it gives for a graph.

An engine only runs an operator in int8 when the Q/DQ pairs around it match the patterns that its
fusions look for; a pair in the wrong place costs time and accuracy and buys nothing. So each
engine has its own :class:`PlacementProfile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import onnx_ir as ir

from edgekit.compress.quantize.patterns import fused_outputs
from edgekit.compress.quantize.profiles import PROFILES, OpRule, PlacementProfile

__all__ = [
    "PROFILES",
    "OpRule",
    "Placement",
    "PlacementProfile",
    "QuantizedNode",
    "plan",
    "shared_ranges",
]


@dataclass(frozen=True, slots=True)
class QuantizedNode:
    """One operator that will run in int8.

    Attributes:
        node: the operator.
        rule: its rule.
        activations: its input positions whose tensor gets a Q/DQ pair.
        result: the tensor behind the operator and its fused activation, when it is quantized.
    """

    node: ir.Node
    rule: OpRule
    activations: tuple[int, ...]
    result: ir.Value | None

    @property
    def tensors(self) -> list[ir.Value]:
        """Every tensor that has to be quantized for this operator."""
        values = [value for i in self.activations if (value := self.node.inputs[i]) is not None]
        return values if self.result is None else [*values, self.result]

    @property
    def weight(self) -> ir.Value | None:
        """The constant that is stored as int8, if the operator has one."""
        return None if self.rule.weight is None else self.node.inputs[self.rule.weight]


@dataclass(slots=True)
class Placement:
    """The plan for one graph and engine.

    Attributes:
        nodes: the operators that will run in int8, in the order of the graph.
        shared: pairs of tensors that have to have one scale, by name.
    """

    nodes: list[QuantizedNode] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)

    @property
    def tensors(self) -> set[str]:
        """Names of all tensors that get a Q/DQ pair."""
        return {str(value.name) for node in self.nodes for value in node.tensors}


def plan(
    model: ir.Model, profile: PlacementProfile, keep_float: AbstractSet[str] = frozenset()
) -> Placement:
    """Decide which operators run in int8. Those inside control-flow bodies stay float.

    Args:
        model: a graph with value types (run shape inference first) and constants as initializers.
        profile: the patterns of the engine that will run it.
        keep_float: names of operators that stay float whatever the profile says.
    """
    placement = Placement()
    integer: set[ir.Value] = set()
    for node in model.graph:
        rule = profile.ops.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        if rule is not None and node.name not in keep_float and _applies(node, rule, integer):
            outputs = fused_outputs(node, profile.fused)
            result = outputs[-1] if rule.output else None
            chosen = QuantizedNode(node, rule, tuple(_computed(node, rule)), result)
            placement.nodes.append(chosen)
            integer.update(outputs)
            if rule.shares_scale:
                # The result, too, when it is not quantized itself: what moves it may be.
                tied = dict.fromkeys(str(v.name) for v in (*chosen.tensors, outputs[-1]))
                first, *others = tied
                placement.shared += [(first, other) for other in others]
        elif node.op_type in profile.transparent and node.inputs and node.inputs[0] in integer:
            integer.update(node.outputs)
            placement.shared.append((str(node.inputs[0].name), str(node.outputs[0].name)))
    return placement


def _applies(node: ir.Node, rule: OpRule, integer: set[ir.Value]) -> bool:
    computed = [node.inputs[position] for position in _computed(node, rule)]
    if not computed or not all(_is_float32(value) for value in computed) or _scales(node):
        return False
    if rule.joins:
        return len(computed) == len(_positions(node, rule)) and all(v in integer for v in computed)
    weight = node.inputs[rule.weight] if rule.weight is not None else None
    if weight is None or weight.const_value is None:
        return False
    rank = len(weight.const_value.shape)
    # A stack of matrices has no integer kernel: ONNX Runtime would fuse it and fail while running.
    return _is_float32(weight) and (rank == 2 if node.op_type == "MatMul" else rank > 1)


def _scales(node: ir.Node) -> bool:
    """A Gemm with factors or a transposed input has no integer kernel in any engine."""
    return (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_float("beta", 1.0) != 1.0
        or node.attributes.get_int("transA", 0) != 0
    )


def _positions(node: ir.Node, rule: OpRule) -> range | tuple[int, ...]:
    return range(len(node.inputs)) if rule.activations == "all" else rule.activations


def _computed(node: ir.Node, rule: OpRule) -> Iterator[int]:
    """The activation positions of ``node`` that hold a computed tensor, not a constant."""
    for position in _positions(node, rule):
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is not None and value.const_value is None:
            yield position


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def shared_ranges(shared: list[tuple[str, str]], present: Mapping[str, object]) -> list[set[str]]:
    """Groups of present tensors that have one scale, out of pairs."""
    groups: list[set[str]] = []
    for pair in shared:
        touching = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touching]
        groups.append(set(pair).union(*touching))
    return [kept for group in groups if len(kept := {n for n in group if n in present}) > 1]
