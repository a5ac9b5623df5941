"""One graph in which every quantized operator can be switched to float and back at run time.

Trying which operators to leave float would otherwise cost a rebuilt and recompiled model a try.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgekit.calibration import Range
from edgekit.compress.quantize.arithmetic import (
    activation_parameters,
    dequantize,
)
from edgekit.compress.quantize.placement import Placement, QuantizedNode
from edgekit.compress.quantize.profiles import PlacementProfile
from edgekit.compress.quantize.qdq import WeightOptions, with_shared_scales
from edgekit.exporters.graph import add_constant, append

__all__ = ["SWITCHES", "make_switchable"]

#: Name of the added input: bool of shape ``(operators,)``, True to quantize.
SWITCHES = "edgekit_switches"


def make_switchable(
    model: ir.Model,
    placement: Placement,
    ranges: Mapping[str, Range],
    profile: PlacementProfile,
    options: WeightOptions,
) -> list[str]:
    """Add the input :data:`SWITCHES` to ``model``.

    Each operator's inputs (and its result, where the engine quantizes it) become
    ``Where(switch, DequantizeLinear(QuantizeLinear(x)), x)``.

    Returns:
        Names of the operators in the order of the switches.
    """
    known = [node for node in placement.nodes if all(v.name in ranges for v in node.tensors)]
    graph = model.graph
    switches = ir.Value(
        name=SWITCHES, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(known)])
    )
    graph.inputs.append(switches)
    builder = _Builder(graph, with_shared_scales(ranges, placement), profile, options)
    for index, chosen in enumerate(known):
        position = add_constant(graph, f"{SWITCHES}_{index}", np.array([index], np.int64))
        switch = append(graph, "Gather", [switches, position], f"{SWITCHES}_{index}_value")
        builder.switch(chosen, switch)
    graph.sort()
    return [str(node.node.name) for node in known]


class _Builder:
    def __init__(
        self,
        graph: ir.Graph,
        ranges: Mapping[str, Range],
        profile: PlacementProfile,
        options: WeightOptions,
    ) -> None:
        self._graph = graph
        self._ranges = ranges
        self._profile = profile
        self._options = options

    def switch(self, chosen: QuantizedNode, switch: ir.Value) -> None:
        """Route everything that this operator quantizes through its switch."""
        node = chosen.node
        for position in chosen.activations:
            value = node.inputs[position]
            assert value is not None
            name = f"{node.name}_{position}"
            quantized = self._fake_quantized(value, self._original(value), name)
            node.replace_input_with(position, self._where(switch, quantized, value, name))
        weight = chosen.weight
        if weight is not None and weight.const_value is not None and chosen.rule.weight is not None:
            name = f"{node.name}_weight"
            real = dequantize(*self._options.quantize(chosen))
            rounded = add_constant(self._graph, f"{name}_rounded", real)
            node.replace_input_with(chosen.rule.weight, self._where(switch, rounded, weight, name))
        if chosen.result is not None:
            self._switch_result(chosen.result, switch, f"{node.name}_result")

    def _switch_result(self, result: ir.Value, switch: ir.Value, name: str) -> None:
        uses = tuple(result.uses())
        quantized = self._fake_quantized(result, str(result.name), name)
        selected = self._where(switch, quantized, result, name)
        selected.metadata_props["edgekit.original"] = str(result.name)
        for use in uses:
            use.node.replace_input_with(use.idx, selected)
        for index, output in enumerate(self._graph.outputs):
            if output is result:
                selected.type, selected.shape = result.type, result.shape
                selected.name, result.name = result.name, f"{result.name}_float"
                self._graph.outputs[index] = selected

    def _original(self, value: ir.Value) -> str:
        """The name of the tensor in the float graph that ``value`` stands for."""
        return value.metadata_props.get("edgekit.original", str(value.name))

    def _fake_quantized(self, value: ir.Value, original: str, name: str) -> ir.Value:
        parameters = activation_parameters(self._ranges[original], self._profile.activation)
        scale = add_constant(self._graph, f"{name}_scale", parameters.scale)
        zero = add_constant(self._graph, f"{name}_zero_point", parameters.zero_point)
        steps = append(self._graph, "QuantizeLinear", [value, scale, zero], f"{name}_steps")
        return append(self._graph, "DequantizeLinear", [steps, scale, zero], f"{name}_real")

    def _where(self, switch: ir.Value, yes: ir.Value, no: ir.Value, name: str) -> ir.Value:
        return append(self._graph, "Where", [switch, yes, no], f"{name}_switched")
