"""Linear layers of a graph: MatMul and Gemm with a constant weight, by the tensor they read."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.exporters.graph import add_constant, must, stored
from edgekit.spec import Array

__all__ = [
    "LinearGroup",
    "fold_transposes",
    "has_factors",
    "is_linear",
    "linear_groups",
    "transposed",
    "weight_of",
]


@dataclass(frozen=True, slots=True)
class LinearGroup:
    """The linear operators that read one tensor.

    Attributes:
        source: the tensor.
        nodes: MatMul and Gemm operators with constant weights that read it.
    """

    source: ir.Value
    nodes: list[ir.Node]

    @property
    def weights(self) -> list[Array]:
        """Each weight as ``(inputs, outputs)``, float32."""
        return [weight_of(node) for node in self.nodes]

    def scale_by(self, graph: ir.Graph, divisor: Array) -> None:
        """Divide the tensor and multiply the weights by ``divisor``, per channel."""
        for node in self.nodes:
            factor = divisor[None, :] if transposed(node) else divisor[:, None]
            name = f"{node.inputs[1].name}_smooth_{node.name}"  # type: ignore[union-attr]
            node.replace_input_with(1, add_constant(graph, name, must(node.inputs[1]) * factor))
        norm = self.absorbing()
        if norm is None:
            self._insert(graph, divisor)
            return
        for position, value in enumerate(norm.inputs[1:], start=1):
            assert value is not None
            scaled = (must(value) / divisor).astype(np.float32)
            norm.replace_input_with(position, add_constant(graph, f"{value.name}_smooth", scaled))

    def absorbing(self) -> ir.Node | None:
        """The LayerNormalization whose constants can be divided instead of the tensor, if any.

        Nobody else may read the tensor. The projection of the values that attention averages could
        absorb it, too, but OpenVINO moves a bare Q through the Transpose behind attention, which
        then turns single bytes: with the division between them MiniLM is 3 to 4 % faster.
        """
        norm = self.source.producer()
        if norm is None or norm.op_type != "LayerNormalization" or self.source.is_graph_output():
            return None
        if {use.node for use in self.source.uses()} - set(self.nodes):
            return None
        return norm if all(stored(value) is not None for value in norm.inputs[1:]) else None

    def _insert(self, graph: ir.Graph, divisor: Array) -> None:
        name = f"{self.source.name}_smooth"
        factor = add_constant(graph, f"{name}_factor", (1.0 / divisor).astype(np.float32))
        node = ir.node("Mul", [self.source, factor], name=f"Mul_{name}")
        node.outputs[0].name = name
        node.outputs[0].type, node.outputs[0].shape = self.source.type, self.source.shape
        graph.insert_before(self.nodes[0], node)
        for linear in self.nodes:
            linear.replace_input_with(0, node.outputs[0])


def fold_transposes(model: ir.Model, keep_float: AbstractSet[str]) -> None:
    """Store the turned weight of a MatMul that reads a constant through a Transpose.

    Exporters leave it so when an embedding table is also the weight of the last layer. Once both
    are quantized the copy is smaller than what they shared.
    """
    for node in model.graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        turn = weight.producer() if weight is not None else None
        if turn is None or turn.op_type != "Transpose" or node.name in keep_float:
            continue
        source = turn.inputs[0]
        if source is None or source.const_value is None or len(source.const_value.shape) != 2:
            continue
        if source.dtype == ir.DataType.FLOAT and turn.attributes.get_ints("perm", [1, 0])[0] == 1:
            name = f"{source.name}_turned"
            known = model.graph.initializers.get(name)
            turned = np.ascontiguousarray(source.const_value.numpy().T)
            node.replace_input_with(1, known or add_constant(model.graph, name, turned))
            if not turn.outputs[0].uses():
                model.graph.remove(turn, safe=True)


def linear_groups(model: ir.Model) -> list[LinearGroup]:
    """Every linear layer, layers that read one tensor together."""
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if is_linear(node) and node.inputs[0] is not None:
            readers.setdefault(node.inputs[0], []).append(node)
    return [LinearGroup(source, nodes) for source, nodes in readers.items()]


def is_linear(node: ir.Node) -> bool:
    """Whether ``node`` multiplies a computed float32 tensor by a constant matrix."""
    if node.op_type not in {"MatMul", "Gemm"} or node.attributes.get_int("transA", 0) != 0:
        return False
    source, weight = node.inputs[0], node.inputs[1]
    return (
        source is not None
        and source.const_value is None
        and source.dtype == ir.DataType.FLOAT
        and weight is not None
        and weight.const_value is not None
        and len(weight.const_value.shape) == 2
    )


def weight_of(node: ir.Node) -> Array:
    """The weight as ``(inputs, outputs)``, float32."""
    return must(node.inputs[1]).T if transposed(node) else must(node.inputs[1])


def transposed(node: ir.Node) -> bool:
    """Whether the weight is stored as ``(outputs, inputs)``."""
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0


def has_factors(node: ir.Node) -> bool:
    """Whether a Gemm scales its product or what it adds: no compressed kernel does."""
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    return (alpha, beta) != (1.0, 1.0)
