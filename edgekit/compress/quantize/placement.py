"""Where Q/DQ pairs go, one declarative table for each engine, and the plan it gives for a graph.

An engine only runs an operator in int8 when the Q/DQ pairs around it match the patterns that its
fusions look for; a pair in the wrong place costs time and accuracy and buys nothing. So each
engine has its own :class:`PlacementProfile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import onnx_ir as ir

__all__ = ["PROFILES", "OpRule", "PlacementProfile", "QuantizedNode", "plan"]


@dataclass(frozen=True, slots=True)
class OpRule:
    """How one operator is quantized.

    Attributes:
        activations: input positions that are quantized when a computed tensor is there.
        weight: input position of a constant that is stored as per-channel int8.
        bias: input position of a constant that is added to the accumulator.
        output: whether the result (after a fused activation) is quantized too.
        joins: quantize only when every activation input already comes out of a quantized
            operator; alone it would not pay for its own Q/DQ pairs.
    """

    activations: tuple[int, ...]
    weight: int | None = None
    bias: int | None = None
    output: bool = False
    joins: bool = False


@dataclass(frozen=True, slots=True)
class PlacementProfile:
    """The patterns one engine turns into int8 kernels.

    Attributes:
        name: the runtime it is for.
        ops: a rule for each operator that is quantized; the rest stays float.
        activation: number format of activations: ``asymmetric`` is uint8 with a zero point,
            ``symmetric`` is int8 without one.
        fused: activation functions the engine merges into the operator before them, so that no
            Q/DQ pair may stand between the two.
        transparent: operators that only move data; a tensor is as quantized after as before.
        bias: ``int32`` in units of the accumulator, or left ``float``.
    """

    name: str
    ops: Mapping[str, OpRule]
    activation: Literal["asymmetric", "symmetric"]
    fused: frozenset[str] = frozenset({"Relu", "Clip"})
    transparent: frozenset[str] = frozenset({"Flatten", "MaxPool", "Reshape", "Transpose"})
    bias: Literal["int32", "float"] = "int32"


_CONV = OpRule(activations=(0,), weight=1, bias=2, output=True)
_RESIDUAL = OpRule(activations=(0, 1), output=True, joins=True)

#: ONNX Runtime fuses DQ -> op -> Q into one integer kernel only when the output is quantized and
#: the bias is int32; a MatMul without an output Q becomes MatMulIntegerToFloat.
_ONNXRUNTIME = PlacementProfile(
    name="onnxruntime",
    ops=MappingProxyType(
        {
            "Conv": _CONV,
            "Gemm": OpRule(activations=(0,), weight=1, bias=2),
            "MatMul": OpRule(activations=(0,), weight=1),
            "Add": _RESIDUAL,
        }
    ),
    activation="asymmetric",
)

#: OpenVINO's low-precision transformations propagate scales through the graph themselves, and an
#: operator with int8 inputs may give a float output at no cost. Zero points cost it nothing either
#: (measured: EfficientNet-Lite0 and MiniLM, same latency within 3 %) and raise MiniLM's cosine to
#: fp32 from 0.983 to 0.994.
_OPENVINO = PlacementProfile(
    name="openvino",
    ops=MappingProxyType(
        {
            "Conv": OpRule(activations=(0,), weight=1, bias=2),
            "Gemm": OpRule(activations=(0,), weight=1, bias=2),
            "MatMul": OpRule(activations=(0,), weight=1),
            "Add": OpRule(activations=(0, 1), joins=True),
        }
    ),
    activation="asymmetric",
    bias="float",
)

#: TensorRT reads explicit quantization: symmetric int8 only, bias in float, residual adds too.
_TENSORRT = replace(_OPENVINO, name="tensorrt-rtx", activation="symmetric")

PROFILES: Mapping[str, PlacementProfile] = MappingProxyType(
    {profile.name: profile for profile in (_ONNXRUNTIME, _OPENVINO, _TENSORRT)}
)


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


def plan(model: ir.Model, profile: PlacementProfile) -> list[QuantizedNode]:
    """Decide which operators run in int8. Those inside control-flow bodies stay float.

    Args:
        model: a graph with value types (run shape inference first) and constants as initializers.
        profile: the patterns of the engine that will run it.
    """
    chosen: list[QuantizedNode] = []
    integer: set[ir.Value] = set()
    for node in model.graph:
        rule = profile.ops.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
        if rule is not None and _applies(node, rule, integer):
            outputs = _fused_outputs(node, profile)
            result = outputs[-1] if rule.output else None
            chosen.append(QuantizedNode(node, rule, tuple(_computed(node, rule)), result))
            integer.update(outputs)
        elif node.op_type in profile.transparent and node.inputs and node.inputs[0] in integer:
            integer.update(node.outputs)
    return chosen


def _applies(node: ir.Node, rule: OpRule, integer: set[ir.Value]) -> bool:
    computed = [node.inputs[position] for position in _computed(node, rule)]
    if not computed or not all(_is_float32(value) for value in computed) or _scales(node):
        return False
    if rule.joins:
        return len(computed) == len(rule.activations) and all(v in integer for v in computed)
    weight = node.inputs[rule.weight] if rule.weight is not None else None
    if weight is None or weight.const_value is None:
        return False
    return _is_float32(weight) and len(weight.const_value.shape) > 1


def _scales(node: ir.Node) -> bool:
    """A Gemm with factors or a transposed input has no integer kernel in any engine."""
    return (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_float("beta", 1.0) != 1.0
        or node.attributes.get_int("transA", 0) != 0
    )


def _computed(node: ir.Node, rule: OpRule) -> Iterator[int]:
    """The activation positions of ``node`` that hold a computed tensor, not a constant."""
    for position in rule.activations:
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is not None and value.const_value is None:
            yield position


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _fused_outputs(node: ir.Node, profile: PlacementProfile) -> list[ir.Value]:
    """The output of ``node`` and of the activation functions that the engine fuses behind it."""
    chain = [node.outputs[0]]
    while True:
        users = chain[-1].consumers()
        if len(users) != 1 or users[0].op_type not in profile.fused or chain[-1].is_graph_output():
            return chain
        chain.append(users[0].outputs[0])
