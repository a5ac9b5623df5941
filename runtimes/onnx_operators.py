"""The operators of an ONNX file, with the shapes that they see in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from edgekit.runtimes.timer import Graph, Operator, Tensor

__all__ = ["MODULE", "onnx_graph"]

#: Key of a node's metadata, which :mod:`edgekit.exporters` writes.
MODULE = "edgekit.module"


def onnx_graph(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """The file's main graph.

    Args:
        path: an ONNX file; weights beside it are not read.
        shapes: of the inputs. What ONNX's shape inference cannot tell of a tensor stays unknown.
    """
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[value.name], strict=True):
                dim.Clear()
                dim.dim_value = size
    del model.graph.value_info[:]  # of shapes with names, which would win
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = {value.name: _tensor(value) for value in graph.input}
    tensors |= {value.name: _tensor(value) for value in (*graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        tensors[tensor.name] = Tensor(_dtype(tensor.data_type), tuple(tensor.dims), stored=True)
    operators = []
    notes: dict[str, str] = {}
    for node in graph.node:
        integers = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
        operators.append(
            Operator(node.name, node.op_type, tuple(node.input), tuple(node.output), integers)
        )
        for entry in node.metadata_props:
            if entry.key == MODULE:
                notes |= dict.fromkeys(filter(None, node.output), entry.value)
    return Graph(tuple(operators), tensors, notes)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    known = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
    shape = tuple(dim.dim_value for dim in kind.shape.dim) if known else None
    return Tensor(_dtype(kind.elem_type), shape)


def _dtype(kind: int) -> str:
    """As numpy and ml_dtypes name it; empty where it is not known."""
    if kind == onnx.TensorProto.UNDEFINED:
        return ""
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind).name)
