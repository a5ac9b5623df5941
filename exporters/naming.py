"""Names in an exported graph that people know: of outputs, dimensions and modules."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import torch
from edgekit.exporters.graph import MODULE, unused_name
from onnx_ir.passes import common

__all__ = ["name_dims", "name_outputs", "note_modules"]


def name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give each output a value and a name of its own, also where several outputs are one tensor,
    or an input or a weight as it is.
    """
    for index, value in enumerate(graph.outputs):
        if value in graph.outputs[:index] or value.producer() is None:
            copy = ir.node("Identity", [value])
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]
    for value in [*graph.initializers.values(), *(out for node in graph for out in node.outputs)]:
        if value.name in names:
            value.name = unused_name(graph.initializers, f"{value.name}_inner")
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def name_dims(model: ir.Model, dynamic: Mapping[str, Mapping[int, str]]) -> None:
    """Give the dynamic dimensions the user's names; the converter keeps symbols such as ``s31``."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, label in dynamic.get(str(value.name), {}).items():
            symbol = value.shape[axis] if value.shape is not None else None
            if isinstance(symbol, ir.SymbolicDim) and symbol.value is not None:
                names[symbol.value] = label
    values = [*model.graph.inputs, *(out for node in model.graph for out in node.outputs)]
    for value in values:
        if value.shape is not None:
            named = (dim if isinstance(dim, int) else dim.value for dim in value.shape)
            value.shape = ir.Shape(names.get(str(dim), dim) for dim in named)


def note_modules(graph: ir.Model, model: torch.nn.Module) -> None:
    """Keep of the converter's notes, which hold code and paths, only each node's module.

    Where the converter folded a normalization into a convolution, the node is the convolution's.
    """
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    places = {node: _place(node, classes) for node in graph.graph}
    common.ClearMetadataAndDocStringPass()(graph)
    for node, place in places.items():
        if place is not None:
            node.metadata_props[MODULE] = f"{place or 'model'} ({classes[place]})"


def _place(node: ir.Node, classes: Mapping[str, str]) -> str | None:
    """The path of the module whose weight the node reads, or else that called it."""
    for value in node.inputs:
        owner, _, kind = str(value.name if value else "").rpartition(".")
        if kind == "weight" and owner in classes:
            return owner
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return next((scope for scope in reversed(scopes[:-1]) if scope in classes), None)
