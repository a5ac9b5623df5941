"""Dynamic quantization: int8 weights, and activations quantized by their range in each run.

No calibration, and no range that an input could leave; it costs a pass over each activation, so
static int8 is faster where it is accurate enough.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import quantize_weight, weight_scale
from edgekit.compress.quantize.linears import fold_transposes
from edgekit.compress.quantize.quantized import refuse_quantized
from edgekit.compress.quantize.weight_only import forms
from edgekit.compress.quantize.weight_only.constants import Constant, linear_weights
from edgekit.compress.quantize.weight_only.grid import Grid, GroupedWeight
from edgekit.exporters.graph import add_constant, append, must, stored
from edgekit.spec import Array

__all__ = ["DynamicInt8"]

_MICROSOFT = "com.microsoft"


class DynamicInt8(GraphPass):
    """int8 weights for each output channel; activations become uint8 while the model runs.

    * ONNX Runtime: DynamicQuantizeLinear, MatMulInteger, Cast and Mul, which it fuses into
      DynamicQuantizeMatMul or MatMulIntegerToFloat; an LSTM becomes DynamicQuantizeLSTM.
    * OpenVINO: compressed weights. Its CPU plugin then quantizes activations itself, in groups,
      where the CPU has int8 dot products.
    """

    precision: ClassVar[str] = "dynamic-int8"
    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"quantized weights"})
    undoes: ClassVar[frozenset[str]] = frozenset(
        {"quantized weights", "half precision", "stored palettes", "learnt scales"}
    )

    type: Literal["dynamic-int8"]

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        refuse_quantized(model)
        total, dynamic = len(model.graph), context.profile.dynamic
        if dynamic is None:
            why = f"{context.profile.name} quantizes no activation while it runs"
            return PassReport(self.type, 0, total, (why,))
        fold_transposes(model, context.keep_float)
        # Without a dot product of its own the engine computes in float: no sum can overflow.
        levels = context.target.levels if dynamic == "operators" else 127
        weights = linear_weights(model, context.keep_float)
        cells = [
            node
            for node in model.graph
            if dynamic == "operators" and node.name not in context.keep_float and _is_lstm(node)
        ]
        writer = _Writer(model.graph, levels)
        for weight in weights:
            (writer.compress if dynamic == "engine" else writer.multiply)(weight)
        for cell in cells:
            writer.recur(cell)
        model.graph.sort()
        changed = sum(len(weight.nodes) for weight in weights) + len(cells)
        return PassReport(self.type, changed, total)


class _Writer:
    def __init__(self, graph: ir.Graph, levels: int) -> None:
        self._graph = graph
        self._levels = levels
        self._quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}

    def compress(self, weight: Constant) -> None:
        """The weight through a DequantizeLinear."""
        steps, scale = self._steps(weight.array)
        made = GroupedWeight.of(Grid(8, 0, symmetric=True), steps, scale[None], 0 * scale[None])
        real = forms.decompressed(self._graph, weight.name, made, swapped=weight.swapped)
        for node in weight.nodes:
            node.replace_input_with(1, real)

    def multiply(self, weight: Constant) -> None:
        """An integer product for every reader of the weight."""
        steps, scale = self._steps(weight.array)
        stored = add_constant(self._graph, f"{weight.name}_steps", steps)
        scales = add_constant(self._graph, f"{weight.name}_scales", scale)
        for node in weight.nodes:
            source = node.inputs[0]
            assert source is not None
            rows, row_scale, row_zero = self._dynamic(source)
            name = str(node.name)
            inputs = [rows, stored, row_zero]
            total = self._add("MatMulInteger", inputs, f"{name}_integer")
            real = self._add("Cast", [total], f"{name}_total", {"to": int(ir.DataType.FLOAT)})
            factor = self._add("Mul", [row_scale, scales], f"{name}_factor")
            forms.replace_by_add(
                self._graph, node, ir.node("Mul", [real, factor], name=f"{name}_real")
            )

    def recur(self, node: ir.Node) -> None:
        """An LSTM with int8 matrices. They are stored as ``(directions, inputs, 4 * hidden)``."""
        inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
        parameters: list[ir.Value] = []
        for position in (1, 2):
            rows = must(inputs[position])
            pairs = [self._steps(np.ascontiguousarray(one.T)) for one in rows]
            name = f"{node.name}_{'wr'[position - 1]}"
            inputs[position] = self._constant(f"{name}_steps", [steps for steps, _ in pairs])
            scale = self._constant(f"{name}_scales", [scale for _, scale in pairs])
            zeros = [np.zeros(len(scale), np.int8) for _, scale in pairs]
            parameters += [scale, self._constant(f"{name}_zero_points", zeros)]
        attributes = [a for name, a in node.attributes.items() if name != "layout"]
        made = ir.Node(
            _MICROSOFT,
            "DynamicQuantizeLSTM",
            [*inputs, *parameters],
            attributes,
            num_outputs=len(node.outputs),
            name=f"{node.name}_dynamic",
        )
        self._graph.opset_imports.setdefault(_MICROSOFT, 1)
        forms.replace_outputs(self._graph, node, made)

    def _steps(self, array: Array) -> tuple[Array, Array]:
        """int8 of ``(inputs, outputs)`` and the scale of each output."""
        scale = weight_scale(array, 1, levels=self._levels)
        return quantize_weight(array, 1, scale, self._levels)[0], scale

    def _dynamic(self, source: ir.Value) -> tuple[ir.Value, ...]:
        """uint8, scale and zero point of a tensor; one operator serves all its readers."""
        if source not in self._quantized:
            node = ir.node(
                "DynamicQuantizeLinear", [source], num_outputs=3, name=f"{source.name}_dynamic"
            )
            for value, part in zip(node.outputs, ("uint8", "scale", "zero_point"), strict=True):
                value.name = f"{source.name}_{part}"
            self._graph.append(node)
            self._quantized[source] = tuple(node.outputs)
        return self._quantized[source]

    def _constant(self, name: str, parts: list[Array]) -> ir.Value:
        return add_constant(self._graph, name, np.stack(parts))

    def _add(
        self,
        op: str,
        inputs: list[ir.Value],
        output: str,
        attributes: dict[str, int] | None = None,
    ) -> ir.Value:
        return append(self._graph, op, inputs, output, attributes)


def _is_lstm(node: ir.Node) -> bool:
    """An LSTM with constant float32 matrices, time first: the quantized one has no other layout."""
    if node.op_type != "LSTM" or node.attributes.get_int("layout", 0) != 0:
        return False
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        return False  # peepholes
    float32 = all(v is not None and v.dtype == ir.DataType.FLOAT for v in node.inputs[1:3])
    return float32 and all(stored(value) is not None for value in node.inputs[1:3])
