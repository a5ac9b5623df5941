"""Take the systematic error of rounded weights out of the biases.

Rounding the weights of a layer shifts the mean of its output by ``(W' - W) E[x]``. With ``E[x]``
measured on calibration data the shift is known, and subtracting it from the bias costs nothing.
Source: Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction",
2019 (arXiv:1906.04721), section 4.2, with the empirical mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgekit.compress.quantize.placement import Placement, QuantizedNode
from edgekit.compress.quantize.qdq import output_axis
from edgekit.exporters.graph import add_constant, must
from edgekit.spec import Array

__all__ = ["channel_axes", "correct_biases", "mean_shift"]


def channel_axes(placement: Placement) -> dict[str, int]:
    """The tensors whose means the correction needs, and which axis of each counts channels."""
    return {
        str(n.tensors[0].name): 1 if n.node.op_type == "Conv" else -1
        for n in placement.nodes
        if n.weight is not None
    }


def correct_biases(
    model: ir.Model, placement: Placement, means: Mapping[str, Array]
) -> Callable[[Sequence[QuantizedNode]], int]:
    """Keep the float weights now; the result corrects the quantized graph.

    Args:
        model: the float graph.
        placement: what will be quantized in it.
        means: of each channel, by tensor, on the float graph.

    Returns:
        A function to call with the operators that were quantized; it gives the number of biases
        that it changed. An operator without a constant bias behind it is left alone.
    """
    weighted = [n for n in placement.nodes if n.weight is not None]
    originals = {str(n.node.name): must(n.weight) for n in weighted}
    inputs = {
        str(n.node.name): means[name] for n in weighted if (name := str(n.tensors[0].name)) in means
    }

    def correct(done: Sequence[QuantizedNode]) -> int:
        changed = 0
        for chosen in done:
            name = str(chosen.node.name)
            if name in inputs:
                axis = output_axis(chosen.node, originals[name].ndim)
                rounded = _dequantized(chosen.weight)
                shift = mean_shift(rounded - originals[name], inputs[name], chosen.node, axis)
                changed += _subtract(model.graph, chosen, shift)
        return changed

    return correct


def mean_shift(error: Array, mean: Array, node: ir.Node, axis: int) -> Array:
    """How far a weight error moves the mean of each output channel.

    Args:
        error: weight error, in the layout of the operator's weight.
        mean: float64 mean of each input channel.
        node: the operator; a Conv counts every tap of its kernel, as if there were no border.
        axis: the output-channel axis of the weight.
    """
    if node.op_type != "Conv":
        rows = np.moveaxis(error, axis, 0).reshape(error.shape[axis], -1)
        moved: Array = rows @ mean
        return moved
    taps = error.sum(axis=tuple(range(2, error.ndim)), dtype=np.float64)
    groups = node.attributes.get_int("group", 1)
    per_group = mean.reshape(groups, -1)
    outputs = taps.reshape(groups, -1, taps.shape[1])
    shift: Array = np.einsum("goi,gi->go", outputs, per_group).reshape(-1)
    return shift


def _subtract(graph: ir.Graph, chosen: QuantizedNode, shift: Array) -> int:
    """Subtract ``shift`` from the constant bias of the operator; 0 when it has none."""
    place = _bias_place(chosen)
    if place is None:
        return 0
    node, position = place
    bias = node.inputs[position]
    assert bias is not None
    name = f"{bias.name}_corrected_{chosen.node.name}"
    if bias.const_value is not None:
        value = bias.const_value.numpy()
        node.replace_input_with(
            position, add_constant(graph, name, (value - shift).astype(value.dtype))
        )
        return 1
    steps, scale = (must(v) for v in bias.producer().inputs[:2])  # type: ignore[union-attr]
    moved = np.rint(steps.astype(np.float64) - shift / scale.astype(np.float64))
    limits = np.iinfo(np.int32)
    stored = add_constant(graph, name, np.clip(moved, limits.min, limits.max).astype(np.int32))
    bias.producer().replace_input_with(0, stored)  # type: ignore[union-attr]
    return 1


def _bias_place(chosen: QuantizedNode) -> tuple[ir.Node, int] | None:
    """The operator and input position of the bias that is added to this operator's result."""
    node, position = chosen.node, chosen.rule.bias
    if position is not None and position < len(node.inputs) and node.inputs[position] is not None:
        bias = node.inputs[position]
        return (node, position) if bias is not None and _stored(bias) else None
    users = node.outputs[0].consumers()
    if node.op_type == "MatMul" and len(users) == 1 and users[0].op_type == "Add":
        for index, value in enumerate(users[0].inputs):
            if value is not None and value.const_value is not None and value.const_value.size > 1:
                return users[0], index
    return None


def _stored(value: ir.Value) -> bool:
    producer = value.producer()
    return value.const_value is not None or (
        producer is not None and producer.op_type == "DequantizeLinear"
    )


def _dequantized(weight: ir.Value | None) -> Array:
    assert weight is not None
    producer = weight.producer()
    assert producer is not None
    steps, scale = (must(value).astype(np.float64) for value in producer.inputs[:2])
    axis = producer.attributes.get_int("axis", 1)
    shape = [1] * steps.ndim
    shape[axis] = -1
    return steps * scale.reshape(shape)
