"""Merge BatchNormalization into the convolution before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, must, stored

from edgekit.spec import Array

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph: ir.Graph) -> int:
    """Fold every inference-mode BatchNormalization whose only source is a Conv.

    ``gamma * (W x + b - mean) / sqrt(var + eps) + beta`` is again a convolution. One operator
    less to run, and one range less to calibrate.

    Returns:
        How many were folded.
    """
    folded = 0
    for norm in graph:
        conv = _foldable_conv(norm)
        if conv is not None:
            _fold(graph, conv, norm)
            folded += 1
    return folded


def _foldable_conv(norm: ir.Node) -> ir.Node | None:
    """The Conv that ``norm`` can be folded into: it feeds nothing else and all is constant."""
    if norm.op_type != "BatchNormalization" or len(norm.outputs) != 1 or norm.inputs[0] is None:
        return None
    conv = norm.inputs[0].producer()
    if conv is None or conv.op_type != "Conv" or len(conv.outputs[0].uses()) != 1:
        return None
    parameters = [*norm.inputs[1:], *conv.inputs[1:]]
    if conv.outputs[0].is_graph_output() or any(stored(value) is None for value in parameters):
        return None
    return conv


def _fold(graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> None:
    gamma, beta, mean, variance = (_float64(value) for value in norm.inputs[1:])
    weight = _float64(conv.inputs[1])
    bias = _float64(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    conv.resize_inputs(3)
    shape = (-1, *[1] * (weight.ndim - 1))
    conv.replace_input_with(1, _constant(graph, conv, "weight", weight * factor.reshape(shape)))
    conv.replace_input_with(2, _constant(graph, conv, "bias", (bias - mean) * factor + beta))
    old, new = norm.outputs[0], conv.outputs[0]
    new.name, old.name = old.name, f"{old.name}_folded"
    new.type, new.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(norm, safe=True)


def _constant(graph: ir.Graph, conv: ir.Node, label: str, array: Array) -> ir.Value:
    return add_constant(graph, f"{conv.name}_{label}_folded", array.astype(np.float32))


def _float64(value: ir.Value | None) -> Array:
    return must(value).astype(np.float64)  # _foldable_conv checked it
