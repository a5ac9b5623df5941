"""Write a placement into the graph as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import onnx_ir as ir

from edgekit.calibration import Range
from edgekit.compress.quantize.arithmetic import (
    AffineParameters,
    activation_parameters,
    quantize_bias,
    quantize_weight,
    weight_scale,
)
from edgekit.compress.quantize.placement import (
    Placement,
    PlacementProfile,
    QuantizedNode,
    shared_ranges,
)
from edgekit.exporters.graph import DEQUANTIZED, add_constant, append, must
from edgekit.spec import Array

__all__ = ["WeightOptions", "insert_qdq", "output_axis", "with_shared_scales"]

#: A bias of at most this many steps fits int32 with room for the products added to it.
_LARGEST_BIAS = 2.0**30


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """How weights become integers.

    Attributes:
        levels: largest quantized magnitude, see :func:`.arithmetic.weight_scale`.
        mse: choose scales by the least squared error.
        fixed: integers and scales that a pass has already decided on (rounding learnt by AdaRound,
            scales learnt in training), by the name of the operator.
    """

    levels: int = 127
    mse: bool = False
    fixed: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)

    def quantize(
        self, chosen: QuantizedNode, smallest: Array | None = None
    ) -> tuple[Array, AffineParameters, int]:
        """The int8 weight of an operator, its parameters and its output-channel axis.

        Args:
            chosen: the operator.
            smallest: least scale of each output channel.
        """
        weight = must(chosen.weight)
        axis = output_axis(chosen.node, weight.ndim)
        name = str(chosen.node.name)
        if name in self.fixed:
            steps, scale = self.fixed[name]
            if smallest is not None and (smallest > scale).any():
                steps, scale = _coarser(steps, scale, smallest, axis)
            return steps, AffineParameters(scale, np.zeros(scale.shape, steps.dtype)), axis
        scale = weight_scale(weight, axis, levels=self.levels, smallest=smallest, mse=self.mse)
        return *quantize_weight(weight, axis, scale, self.levels), axis


def insert_qdq(
    model: ir.Model,
    placement: Placement,
    ranges: Mapping[str, Range],
    profile: PlacementProfile,
    options: WeightOptions = WeightOptions(),
) -> list[QuantizedNode]:
    """Quantize ``model`` in place: int8 weights are stored, activations get Q/DQ pairs.

    Args:
        model: the graph that ``placement`` was planned on.
        placement: the operators to quantize.
        ranges: calibrated range of each activation. An operator that touches a tensor without
            one (it was empty in every calibration batch) stays float.
        profile: the engine's placement profile.
        options: how weights become integers.

    Returns:
        The operators that were quantized.
    """
    known = [node for node in placement.nodes if all(v.name in ranges for v in node.tensors)]
    writer = _Writer(model.graph, with_shared_scales(ranges, placement), profile, options)
    for chosen in known:
        writer.quantize_constants(chosen)
    for chosen in known:
        writer.quantize_activations(chosen)
    model.graph.sort()
    if not any(rule.output for rule in profile.ops.values()):
        _quantize_before_moving(model.graph, profile)
    return known


def with_shared_scales(ranges: Mapping[str, Range], placement: Placement) -> dict[str, Range]:
    """The ranges, widened where several tensors have to have one scale."""
    shared = dict(ranges)
    for group in shared_ranges(placement.shared, ranges):
        together = reduce(Range.union, (ranges[name] for name in sorted(group)))
        shared |= dict.fromkeys(group, together)
    return shared


def _quantize_before_moving(graph: ir.Graph, profile: PlacementProfile) -> None:
    """Let pooling and reshaping move int8: put the Q/DQ pair behind them in front of them.

    Both sides have one scale, so nothing changes but the time. Engines that want the results of
    operators quantized have a pair on either side already.
    """
    for node in reversed(list(graph)):
        source, moved = node.inputs[0] if node.inputs else None, node.outputs[0]
        users = moved.consumers()
        if node.op_type not in profile.transparent or source is None or moved.is_graph_output():
            continue
        if len(node.outputs) > 1:
            continue  # the indices of a MaxPool depend on which of two equal values comes first
        if len(users) != 1 or users[0].op_type != "QuantizeLinear" or source.producer() is None:
            continue
        pair = users[0].outputs[0].consumers()[0].outputs[0]
        if pair.is_graph_output():
            continue
        ir.convenience.replace_all_uses_with(pair, moved)
        users[0].replace_input_with(0, source)
        node.replace_input_with(0, pair)
    graph.sort()


def output_axis(node: ir.Node, rank: int) -> int:
    """The axis of the output channels in the weight of ``node``."""
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return rank - 1 if node.op_type == "MatMul" else 0


def _coarser(steps: Array, scale: Array, smallest: Array, axis: int) -> tuple[Array, Array]:
    """Integers that were decided on, rounded again where the bias needs a larger scale."""
    wanted = np.maximum(scale, smallest).astype(np.float32)
    shape = [-1 if index == axis else 1 for index in range(steps.ndim)]
    return np.rint(steps * (scale / wanted).reshape(shape)).astype(np.int8), wanted


class _Writer:
    def __init__(
        self,
        graph: ir.Graph,
        ranges: dict[str, Range],
        profile: PlacementProfile,
        options: WeightOptions,
    ) -> None:
        self._graph = graph
        self._ranges = ranges
        self._profile = profile
        self._options = options
        self._done: dict[str, ir.Value] = {}

    def quantize_constants(self, chosen: QuantizedNode) -> None:
        """Store the weight as int8 and, where the engine wants it so, the bias as int32."""
        node, position, weight = chosen.node, chosen.rule.weight, chosen.weight
        if weight is None or position is None or weight.const_value is None:
            return
        input_scale = self._parameters(chosen.tensors[0]).scale
        bias = self._bias_of(chosen)
        smallest = None if bias is None else np.abs(bias) / (_LARGEST_BIAS * input_scale)
        quantized, parameters, axis = self._options.quantize(chosen, smallest)
        name = f"{weight.name}_{node.name}"
        node.replace_input_with(position, self._dequantized(name, quantized, parameters, axis))
        if bias is not None and chosen.rule.bias is not None:
            scale = input_scale * parameters.scale
            steps = AffineParameters(scale, np.zeros(scale.shape, np.int32))
            value = self._dequantized(f"{name}_bias", quantize_bias(bias, scale), steps, 0)
            node.replace_input_with(chosen.rule.bias, value)

    def quantize_activations(self, chosen: QuantizedNode) -> None:
        """Let the operator read, and all readers of its result read, through a Q/DQ pair."""
        for position in chosen.activations:
            value = chosen.node.inputs[position]
            if value is not None and value not in self._done.values():
                chosen.node.replace_input_with(position, self._pair(value))
        if chosen.result is not None:
            pair = self._pair(chosen.result)
            quantize = pair.producer().inputs[0].producer()  # type: ignore[union-attr]
            for use in tuple(chosen.result.uses()):
                if use.node is not quantize:
                    use.node.replace_input_with(use.idx, pair)
            self._keep_output(chosen.result, pair)

    def _pair(self, value: ir.Value) -> ir.Value:
        """The dequantized twin of ``value``; one pair serves all its readers."""
        name = str(value.name)
        if name not in self._done:
            parameters = self._parameters(value)
            scale = add_constant(self._graph, f"{name}_scale", parameters.scale)
            zero_point = add_constant(self._graph, f"{name}_zero_point", parameters.zero_point)
            steps = append(
                self._graph, "QuantizeLinear", [value, scale, zero_point], f"{name}_quantized"
            )
            self._done[name] = append(
                self._graph, "DequantizeLinear", [steps, scale, zero_point], f"{name}{DEQUANTIZED}"
            )
        return self._done[name]

    def _keep_output(self, value: ir.Value, pair: ir.Value) -> None:
        """A quantized graph output keeps its name and type; the tensor before it gets a new one."""
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                pair.type, pair.shape = value.type, value.shape
                name, value.name = value.name, f"{value.name}_float"
                pair.name = name
                self._graph.outputs[index] = pair

    def _bias_of(self, chosen: QuantizedNode) -> Array | None:
        """The constant bias that has to become int32, if any."""
        position = chosen.rule.bias
        if self._profile.bias != "int32" or position is None or position >= len(chosen.node.inputs):
            return None
        bias = chosen.node.inputs[position]
        if bias is None or bias.const_value is None or len(bias.const_value.shape) != 1:
            return None
        return bias.const_value.numpy()

    def _parameters(self, value: ir.Value) -> AffineParameters:
        return activation_parameters(self._ranges[str(value.name)], self._profile.activation)

    def _dequantized(
        self, name: str, steps: Array, parameters: AffineParameters, axis: int
    ) -> ir.Value:
        """A stored integer constant and the DequantizeLinear that gives its real value."""
        inputs = [
            add_constant(self._graph, f"{name}_quantized", steps),
            add_constant(self._graph, f"{name}_scale", parameters.scale),
            add_constant(self._graph, f"{name}_zero_point", parameters.zero_point),
        ]
        return append(
            self._graph, "DequantizeLinear", inputs, f"{name}{DEQUANTIZED}", {"axis": axis}
        )
