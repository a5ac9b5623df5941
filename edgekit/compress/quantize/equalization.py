"""Cross-layer equalization: even out the channel ranges of consecutive convolutions.

``relu(s x) = s relu(x)`` for positive ``s``, so each channel between two layers can be rescaled
without changing the model. Source: Nagel et al., "Data-Free Quantization through Weight
Equalization and Bias Correction", 2019 (arXiv:1906.04721), section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.exporters.graph import add_constant, must
from edgekit.spec import Array

__all__ = ["CrossLayerEqualization"]

#: Activation functions that commute with a positive factor.
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
#: A scale further from 1 than this only moves the problem elsewhere.
_LARGEST = 1e3


class CrossLayerEqualization(GraphPass):
    """Rescale channels between two convolutions so that both weights use their range evenly.

    It needs no data. Only pairs with nothing or a (leaky) ReLU between them can be equalized; a
    ReLU6 (Clip) does not commute with a factor and its pairs are left alone, as per-channel
    weight scales take care of most of the unevenness anyway.

    Attributes:
        rounds: times all pairs are visited, as one pair disturbs the next.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["equalize"]
    rounds: int = 3

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:  # noqa: ARG002
        pairs = list(_pairs(model.graph))
        for _ in range(self.rounds if pairs else 0):
            for first, second in pairs:
                _equalize(model.graph, first, second)
        convolutions = sum(node.op_type == "Conv" for node in model.graph)
        changed = {node for pair in pairs for node in pair}
        return PassReport(self.type, len(changed), convolutions)


def _pairs(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    for node in graph:
        if _constant_conv(node):
            second = _next_conv(node.outputs[0])
            if second is not None and _channels_match(node, second):
                yield node, second


def _next_conv(value: ir.Value) -> ir.Node | None:
    """The convolution that alone reads ``value``, perhaps through a homogeneous activation."""
    users = value.consumers()
    if len(users) != 1 or value.is_graph_output() or len(value.uses()) != 1:
        return None
    if users[0].op_type in _HOMOGENEOUS:
        return _next_conv(users[0].outputs[0])
    return users[0] if _constant_conv(users[0]) and users[0].inputs[0] is value else None


def _constant_conv(node: ir.Node) -> bool:
    if node.op_type != "Conv":
        return False
    constants = [value for value in node.inputs[1:] if value is not None]
    plain = all(value.const_value is not None for value in constants)
    groups = node.attributes.get_int("group", 1)
    shape = constants[0].const_value.shape if plain else None  # type: ignore[union-attr]
    return plain and shape is not None and groups in {1, shape.numpy()[0]}


def _channels_match(first: ir.Node, second: ir.Node) -> bool:
    """Not so for a depthwise convolution with a channel multiplier."""
    depthwise = second.attributes.get_int("group", 1) > 1
    return bool(must(second.inputs[1]).shape[0 if depthwise else 1] == len(must(first.inputs[1])))


def _equalize(graph: ir.Graph, first: ir.Node, second: ir.Node) -> None:
    above, below = must(first.inputs[1]), must(second.inputs[1])
    depthwise = second.attributes.get_int("group", 1) > 1
    channel = 0 if depthwise else 1  # the axis of `below` that counts the channels between
    range_above = np.abs(above).reshape(len(above), -1).max(axis=1)
    range_below = np.abs(np.moveaxis(below, channel, 0)).reshape(len(above), -1).max(axis=1)
    usable = (range_above > 1e-8) & (range_below > 1e-8)
    safe = np.where(usable, range_above, 1.0), np.where(usable, range_below, 1.0)
    scale = np.where(usable, np.sqrt(safe[0] / safe[1]), 1.0).clip(1 / _LARGEST, _LARGEST)
    _replace(graph, first, 1, above / scale.reshape(-1, *[1] * (above.ndim - 1)))
    if len(first.inputs) > 2 and first.inputs[2] is not None:
        _replace(graph, first, 2, must(first.inputs[2]) / scale)
    shape = [1] * below.ndim
    shape[channel] = -1
    _replace(graph, second, 1, below * scale.reshape(shape))


def _replace(graph: ir.Graph, node: ir.Node, position: int, array: Array) -> None:
    label = {1: "weight", 2: "bias"}[position]
    value = add_constant(graph, f"{node.name}_{label}_equalized", array.astype(np.float32))
    node.replace_input_with(position, value)
