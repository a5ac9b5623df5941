"""Half precision: fp16 or bf16 weights, and half-precision arithmetic where the engine has it.

Rules for what stays fp32: weights and activations that would overflow (checked on calibration
data), and the operators whose sums or exponentials need fp32's mantissa.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from edgekit.calibration import Estimator, Range
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import FP16_NORMAL, along
from edgekit.exporters.graph import INFERENCE_PRECISION, add_constant, must, stored
from edgekit.spec import Array

__all__ = ["HALF_TYPES", "KEEP_FP32", "HalfPrecision"]

HALF_TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

#: Operators that compute in fp32 whatever their inputs are, and why.
KEEP_FP32 = {
    "Softmax": "sums of exponentials",
    "LogSoftmax": "sums of exponentials",
    "Exp": "overflows fp16 beyond 11",
    "Log": "cancels near 1",
    "Pow": "squares overflow fp16 beyond 255",
    "LayerNormalization": "the variance is a sum of squares",
    "InstanceNormalization": "the variance is a sum of squares",
    "GroupNormalization": "the variance is a sum of squares",
    "ReduceMean": "a long sum",
    "ReduceSum": "a long sum",
    "ReduceSumSquare": "a long sum of squares",
    "ReduceL2": "a long sum of squares",
    "ReduceLogSumExp": "sums of exponentials",
    "CumSum": "a long sum",
    "Resize": "coordinates need more than 11 bits",
    "LSTM": "rounding adds up over the steps",
    "GRU": "rounding adds up over the steps",
    "RNN": "rounding adds up over the steps",
}

#: Operators whose result has the type that an attribute says.
_TYPED = frozenset(
    {
        "Bernoulli", "Cast", "ConstantOfShape", "EyeLike", "Multinomial", "RandomNormal",
        "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    }
)  # fmt: skip

#: Operators whose constants say how large the result is: they are not rounded.
_SIZED = frozenset({"Resize", "Upsample", "Range"})

#: Operators that only move data: they stay fp32 between two that do.
_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

#: Operators whose second input is the step of a quantization.
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear"})

_FP16_LARGEST = 65504.0
#: Leave a factor of 4 below fp16's largest number for data that calibration has not seen.
_FP16_SAFE = _FP16_LARGEST / 4.0


class HalfPrecision(GraphPass):
    """Store weights in half precision and compute in it where the engine can.

    * TensorRT takes its types from the graph: the graph is retyped, with casts around what stays
      fp32, and every activation is checked on calibration data to stay far from overflow.
    * OpenVINO takes fp16 weights in its IR and the arithmetic from a hint: ``bf16`` computes in
      bfloat16 where the CPU has it, ``fp16`` on a CPU only halves the file.
    * ONNX Runtime has no half-precision CPU kernels on x86: weights are stored in half and widened
      once, while the model loads. The file is half as large and no slower.

    Attributes:
        dtype: ``fp16`` or ``bf16``.
    """

    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"half precision"})
    undoes: ClassVar[frozenset[str]] = frozenset({"half precision"})

    type: Literal["half"]
    dtype: Literal["fp16", "bf16"] = "fp16"

    @property
    def label(self) -> str:
        return self.dtype

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        weights = _float_weights(model, self.dtype)
        if context.profile.half_form == "hint":
            if self.dtype not in context.profile.half:
                return PassReport(self.type, 0, len(weights))
            model.metadata_props[INFERENCE_PRECISION] = self.dtype
            return PassReport(self.type, len(weights), len(weights))
        if context.profile.half_form == "storage":
            for weight in weights:
                _store(model.graph, weight, self.dtype)
            model.graph.sort()
            return PassReport(self.type, len(weights), len(weights))
        if self.dtype == "fp16":
            for node in model.graph:
                _fit_steps(model.graph, node)
        overflowing = self._overflowing(model, context)
        changed = _Retyper(model, self.dtype, overflowing).run()
        details = (f"{len(overflowing)} activations stay fp32 for their range",)
        return PassReport(self.type, changed, len(model.graph), details if overflowing else ())

    def _overflowing(self, model: ir.Model, context: GraphContext) -> set[str]:
        """Activations whose largest value on calibration data is too near fp16's limit."""
        if self.dtype == "bf16":
            return set()
        tensors = {
            str(value.name)
            for values in (model.graph.inputs, *(node.outputs for node in model.graph))
            for value in values
            if value.dtype == ir.DataType.FLOAT
        }
        table = context.calibrator.table(model, tensors, Estimator(name="min-max"))
        return {name for name, found in table.ranges.items() if _largest(found) > _FP16_SAFE}


class _Retyper:
    """Changes the element type of a graph, with casts at the borders of what stays fp32."""

    def __init__(self, model: ir.Model, dtype: str, overflowing: set[str]) -> None:
        self._graph = model.graph
        self._half = HALF_TYPES[dtype]
        self._dtype = dtype
        self._overflowing = overflowing
        self._casts: dict[tuple[str, ir.DataType], ir.Value] = {}
        self._halves: dict[ir.Value, ir.Value] = {}
        self._captured = _captured(self._graph)

    def run(self) -> int:
        """Retype in place; how many operators compute in half precision now."""
        changed = 0
        outputs = {value.name for value in self._graph.outputs}
        original = {
            value: value.dtype for node in self._graph for value in (*node.inputs, *node.outputs)
            if value is not None
        }  # fmt: skip
        for node in list(self._graph):
            values = [v for v in (*node.inputs, *node.outputs) if v is not None]
            if not any(original[v] == ir.DataType.FLOAT for v in values):
                continue
            keep = self._keeps_fp32(node, original) or self._only_moves_fp32(node, original)
            changed += not keep
            wanted = ir.DataType.FLOAT if keep else self._half
            for position, value in enumerate(node.inputs):
                if value is not None and original.get(value) == ir.DataType.FLOAT:
                    node.replace_input_with(position, self._as(value, wanted))
            for value in node.outputs:
                if original[value] == ir.DataType.FLOAT:
                    # A new type: clones of the graph share the old object.
                    value.type = ir.TensorType(wanted)
        for index, value in enumerate(self._graph.outputs):
            if value.name in outputs and value.dtype == self._half:
                self._widen_output(index, value)
        self._graph.sort()
        return changed

    def _keeps_fp32(self, node: ir.Node, original: dict[ir.Value, ir.DataType | None]) -> bool:
        if node.op_type in KEEP_FP32 or node.op_type in _TYPED:
            return True
        if node.domain not in {"", "ai.onnx"} or _has_body(node):
            return True
        if any(value in self._captured for value in node.outputs):
            return True
        if self._dtype == "fp16" and any(v is not None and not _fits(v) for v in node.inputs):
            return True
        if self._dtype == "fp16" and _has_small_step(node):
            return True
        touched = [
            str(v.name) for v in (*node.inputs, *node.outputs) if v is not None and v in original
        ]
        return any(name in self._overflowing for name in touched)

    def _only_moves_fp32(self, node: ir.Node, original: dict[ir.Value, ir.DataType | None]) -> bool:
        """Whether fp32 comes in, and only operators that stay fp32 read what goes out.

        Two casts are saved; and TensorRT-RTX 1.7 cannot compile an LSTM behind casts.
        """

        def comes_fp32(value: ir.Value | None) -> bool:
            maker = None if value is None else value.producer()
            if maker is None or self._keeps_fp32(maker, original):
                return True
            return maker.op_type in _MOVES and comes_fp32(maker.inputs[0])

        def goes_fp32(value: ir.Value) -> bool:
            return all(
                self._keeps_fp32(user, original)
                or (user.op_type in _MOVES and goes_fp32(user.outputs[0]))
                for user in value.consumers()
            )

        return node.op_type in _MOVES and comes_fp32(node.inputs[0]) and goes_fp32(node.outputs[0])

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        if value.const_value is not None:
            if wanted == ir.DataType.FLOAT:
                return value
            if value not in self._halves:
                self._halves[value] = _halved(self._graph, value, self._dtype)
            return self._halves[value]
        if value.dtype == wanted:
            return value
        key = (str(value.name), wanted)
        if key not in self._casts:
            self._casts[key] = _cast(self._graph, value, wanted, f"{value.name}_{wanted.name}")
        return self._casts[key]

    def _widen_output(self, index: int, value: ir.Value) -> None:
        name, value.name = str(value.name), f"{value.name}_{self._dtype}"
        wide = _cast(self._graph, value, ir.DataType.FLOAT, name)
        wide.type, wide.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        self._graph.outputs[index] = wide


def _float_weights(model: ir.Model, dtype: str) -> list[ir.Value]:
    """Constants of more than one value that fit the half type."""
    return [
        value
        for value in list(model.graph.initializers.values())
        if value.dtype == ir.DataType.FLOAT
        and value.const_value is not None
        and value.const_value.size > 1
        and (dtype == "bf16" or _fits(value))
        and not any(node.op_type in _SIZED for node in value.consumers())
    ]


def _fits(value: ir.Value) -> bool:
    """Whether fp16 holds every value of a constant; a computed tensor is judged elsewhere."""
    if value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return True
    return float(np.abs(value.const_value.numpy()).max(initial=0.0)) < _FP16_LARGEST


def _has_small_step(node: ir.Node) -> bool:
    """Whether a quantization has a step that fp16 rounds, or takes for 0."""
    step = stored(node.inputs[1]) if node.op_type in _QUANTIZED else None
    if step is None:
        return False
    small = step[step < FP16_NORMAL]
    return bool((small != small.astype(np.float16)).any())


def _fit_steps(graph: ir.Graph, node: ir.Node) -> None:
    """Round stored int8 values to steps that fp16 holds, where theirs are too small for it.

    Their step is rounded up, so that no value leaves the range. TensorRT wants a convolution's
    weights right behind their DequantizeLinear: no cast from fp32 may stand between.
    """
    steps = stored(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
    if steps is None or steps.dtype != np.int8 or not _has_small_step(node):
        return
    step = must(node.inputs[1])
    near = np.maximum(step.astype(np.float16), np.finfo(np.float16).smallest_subnormal)
    up = np.where(near < step, np.nextafter(near, np.float16(np.inf)), near).astype(np.float32)
    fitted = np.where(step < FP16_NORMAL, up, step)
    ratio = along(step / fitted, steps.ndim, node.attributes.get_int("axis", 1))
    fits: dict[int, Array] = {
        0: np.rint(steps * ratio).astype(np.int8),
        1: fitted.astype(np.float32),
    }
    for position, array in fits.items():
        value = node.inputs[position]
        name = f"{value.name if value else node.name}_fitted"
        node.replace_input_with(position, add_constant(graph, name, array))


def _has_body(node: ir.Node) -> bool:
    kinds = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
    return any(attribute.type in kinds for attribute in node.attributes.values())


def _captured(graph: ir.Graph) -> set[ir.Value]:
    """Tensors of the graph that a control-flow body inside it reads by name."""
    inside = (n for n in ir.traversal.RecursiveGraphIterator(graph) if n.graph is not graph)
    return {value for node in inside for value in node.inputs if value is not None}


def _halved(graph: ir.Graph, value: ir.Value, dtype: str) -> ir.Value:
    assert value.const_value is not None
    half = HALF_TYPES[dtype]
    array = value.const_value.numpy().astype(half.numpy())
    return add_constant(graph, f"{value.name}_{dtype}", array)


def _store(graph: ir.Graph, value: ir.Value, dtype: str) -> None:
    """Keep the constant in half precision and let the engine widen it while it loads."""
    uses = tuple(value.uses())
    wide = _cast(graph, _halved(graph, value, dtype), ir.DataType.FLOAT, f"{value.name}_wide")
    for use in uses:
        use.node.replace_input_with(use.idx, wide)


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType, name: str) -> ir.Value:
    node = ir.node("Cast", [value], {"to": int(to)}, name=f"Cast_{name}")
    node.outputs[0].name = name
    node.outputs[0].type = ir.TensorType(to)
    node.outputs[0].shape = value.shape
    graph.append(node)
    return node.outputs[0]


def _largest(found: Range) -> float:
    return max(abs(found.low), abs(found.high))
