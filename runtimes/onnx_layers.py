"""An ONNX file with every result inside it as an output."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
from edgekit.runtimes.base import Layer, given_name

from edgekit.errors import RuntimeUnavailableError
from edgekit.spec import TensorSpec

__all__ = ["with_all_outputs"]


def with_all_outputs(
    path: Path, given: Sequence[TensorSpec]
) -> tuple[bytes, tuple[Layer, ...], int]:
    """The model with every operator's results as further outputs, the operators, and how many
    outputs it has by itself; these are the first.

    Whatever reads a tensor of ``given`` reads a further input instead. What is
    computed from constants alone is no layer. Neither is what is inside the branches of an If
    or the body of a Loop: those are one layer each.

    Raises:
        RuntimeUnavailableError: ``path`` is no ONNX file, or the model is over 2 GB.
    """
    try:
        model = onnx.load(path)
        graph = model.graph
        layers = _layers(graph)
        _give(graph, given)
        own = [value.name for value in graph.output]
        graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(layer.tensor)
            for layer in layers
            if layer.tensor not in own
        )
        return model.SerializeToString(), layers, len(own)
    except Exception as error:  # protobuf's errors have no stable public home
        raise RuntimeUnavailableError(
            f"cannot be opened up: {str(error)[:200]}",
            where=str(path),
            fix="Give an ONNX file of less than 2 GB",
        ) from error


def _give(graph: onnx.GraphProto, given: Sequence[TensorSpec]) -> None:
    if given:
        del graph.value_info[:]  # what is given may have other shapes
    for spec in given:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        value = onnx.helper.make_tensor_value_info(given_name(spec.name), kind, spec.shape)
        graph.input.append(value)
    names = {spec.name for spec in given}
    for node in graph.node:
        _rename(node, names)


def _rename(node: onnx.NodeProto, given: Collection[str]) -> None:
    node.input[:] = [given_name(name) if name in given else name for name in node.input]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename(inner, given)


def _layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    stored = {tensor.name for tensor in graph.initializer}
    known = {value.name for value in graph.input} - stored
    layers = []
    for node in graph.node:
        inputs = tuple(dict.fromkeys(name for name in _read(node) if name in known))
        if inputs:
            made = [name for name in node.output if name]
            known.update(made)
            layers += [Layer(name, node.op_type, node.name, inputs, (name,)) for name in made]
    return tuple(layers)


def _read(node: onnx.NodeProto) -> list[str]:
    """What it reads: its inputs, and what its subgraphs take from around them."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [name for inner in graph.node for name in _read(inner)]
    return names
