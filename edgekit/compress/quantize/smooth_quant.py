"""SmoothQuant: move the outliers of activations into the weights before quantizing both.

``X W = (X / s) (s W)`` for any positive per-channel ``s``. Source: Xiao et al., "SmoothQuant:
Accurate and Efficient Post-Training Quantization for Large Language Models", 2023
(arXiv:2211.10438), with ``s = max|X|^alpha / max|W|^(1 - alpha)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgekit.calibration import ChannelRange, Range, RowSample, Several
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import (
    asymmetric_uint8,
    dequantize,
    quantize,
    quantize_weight,
    weight_scale,
)
from edgekit.exporters.attention import attended_projection
from edgekit.exporters.graph import add_constant
from edgekit.spec import Array

__all__ = ["SmoothQuant"]

_SAMPLES = 32

#: Least gain where the division costs nothing, because constants before the layer absorb it.
_FREE_GAIN = 1.05


class SmoothQuant(GraphPass):
    """Choose for each input of linear layers how much of its outliers its weights take over.

    The migration strength ``alpha`` of each layer is the one with the least error of the layer's
    quantized output, measured on calibration rows. Where a LayerNormalization or the projection of
    attention's values can absorb the scaling it is free; elsewhere it costs an element-wise
    operator, and a layer that gains too little is left alone.

    Attributes:
        alphas: strengths to try.
        least_gain: where the scaling costs an operator, change a layer only when its squared output
            error falls by this factor.
    """

    type: Literal["smooth-quant"]
    alphas: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    least_gain: float = 2.0

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        groups = list(_groups(model))
        if len(groups) <= sum(node.op_type == "Conv" for node in model.graph):
            # A CNN with a linear head has no transformer's outliers; leave its data alone.
            return PassReport(self.type, 0, len(groups))
        ranges = {str(g.source.name): ChannelRange(-1) for g in groups}
        rows = {name: RowSample() for name in ranges}
        both = {name: Several(found, rows[name]) for name, found in ranges.items()}
        context.calibrator.observe(model, both, _SAMPLES)
        details = []
        for group in groups:
            name = str(group.source.name)
            if not rows[name].count:
                continue
            found = self._best(rows[name].rows, ranges[name].largest, group.weights)
            if found is not None and (found[2] >= self.least_gain or group.absorbing()):
                alpha, scale, gain = found
                group.scale_by(model.graph, scale)
                details.append(f"{group.nodes[0].name}: alpha {alpha:g}, error {gain:.2f}x smaller")
        return PassReport(self.type, len(details), len(groups), tuple(details))

    def _best(
        self, rows: Array, largest: Array, weights: Sequence[Array]
    ) -> tuple[float, Array, float] | None:
        """Alpha, per-channel divisor and gain of the best strength; None when none is worth it."""
        before = _error(rows, weights, np.ones_like(largest))
        tried = [(alpha, _divisor(largest, weights, alpha)) for alpha in self.alphas]
        errors = [_error(rows, weights, scale) for _, scale in tried]
        best = int(np.argmin(errors))
        gain = before / max(errors[best], 1e-30)
        return (*tried[best], gain) if gain > _FREE_GAIN else None


@dataclass(frozen=True, slots=True)
class _Group:
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
        return [_weight(node).T if _transposed(node) else _weight(node) for node in self.nodes]

    def scale_by(self, graph: ir.Graph, divisor: Array) -> None:
        """Divide the tensor and multiply the weights by ``divisor``, per channel."""
        for node in self.nodes:
            factor = divisor[None, :] if _transposed(node) else divisor[:, None]
            name = f"{node.inputs[1].name}_smooth_{node.name}"  # type: ignore[union-attr]
            node.replace_input_with(1, add_constant(graph, name, _weight(node) * factor))
        places = self.absorbing()
        for node, position in places:
            value = node.inputs[position]
            assert value is not None
            assert value.const_value is not None
            scaled = (value.const_value.numpy() / divisor).astype(np.float32)
            node.replace_input_with(position, add_constant(graph, f"{value.name}_smooth", scaled))
        if not places:
            self._insert(graph, divisor)

    def absorbing(self) -> list[tuple[ir.Node, int]]:
        """The constants whose last axis can be divided instead of the tensor, if there are such.

        They are the weights of the LayerNormalization that makes the tensor, or those of the values
        that attention averages into it; in either case nobody else may read the tensor.
        """
        others = {use.node for use in self.source.uses()} - set(self.nodes)
        norm = self.source.producer()
        if norm is None or others or self.source.is_graph_output():
            return []
        projection = attended_projection(self.source)
        if projection is not None:
            return [(projection.product, 1), (projection.add, projection.position)]
        if norm.op_type != "LayerNormalization":
            return []
        constants = [value for value in norm.inputs[1:] if value is not None]
        if len(constants) != len(norm.inputs) - 1 or any(v.const_value is None for v in constants):
            return []
        return [(norm, position) for position in range(1, len(norm.inputs))]

    def _insert(self, graph: ir.Graph, divisor: Array) -> None:
        name = f"{self.source.name}_smooth"
        factor = add_constant(graph, f"{name}_factor", (1.0 / divisor).astype(np.float32))
        node = ir.node("Mul", [self.source, factor], name=f"Mul_{name}")
        node.outputs[0].name = name
        node.outputs[0].type, node.outputs[0].shape = self.source.type, self.source.shape
        graph.insert_before(self.nodes[0], node)
        for linear in self.nodes:
            linear.replace_input_with(0, node.outputs[0])


def _groups(model: ir.Model) -> Iterator[_Group]:
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if _is_linear(node) and node.inputs[0] is not None:
            readers.setdefault(node.inputs[0], []).append(node)
    for source, nodes in readers.items():
        yield _Group(source, nodes)


def _is_linear(node: ir.Node) -> bool:
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


def _weight(node: ir.Node) -> Array:
    value = node.inputs[1]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def _divisor(largest: Array, weights: Sequence[Array], alpha: float) -> Array:
    """``s`` of the paper, its geometric mean 1; channels that are always zero keep theirs."""
    heaviest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    usable = (largest > 1e-8) & (heaviest > 1e-8)
    safe_x, safe_w = np.where(usable, largest, 1.0), np.where(usable, heaviest, 1.0)
    scale = safe_x**alpha / safe_w ** (1.0 - alpha)
    scale /= np.exp(np.log(scale[usable]).mean()) if usable.any() else 1.0
    divisor: Array = np.where(usable, np.clip(scale, 1e-3, 1e3), 1.0).astype(np.float32)
    return divisor


def _error(rows: Array, weights: Sequence[Array], divisor: Array) -> float:
    """Squared error of the quantized products against the float ones, relative to their power."""
    smooth = rows / divisor
    parameters = asymmetric_uint8(Range(low=float(smooth.min()), high=float(smooth.max())))
    activations = dequantize(quantize(smooth, parameters), parameters)
    total = 0.0
    for weight in weights:
        scaled = weight * divisor[:, None]
        steps, affine = quantize_weight(scaled, 1, weight_scale(scaled, 1))
        exact = rows @ weight
        got = activations @ dequantize(steps, affine, 1)
        power = float(np.square(exact, dtype=np.float64).sum())
        total += float(np.square(exact - got, dtype=np.float64).sum()) / max(power, 1e-30)
    return total
