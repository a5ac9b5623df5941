"""The operators of an ONNX file, with the shapes that they see in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from edgekit.runtimes.timer import Graph, Operator, Tensor

__all__ = ["MODULE", "onnx_graph"]

#: Key of a node's metadata, which :mod:`edgekit.exporters` writes.
MODULE = "edgekit.module"
_KINDS = {
    onnx.helper.tensor_dtype_to_np_dtype(kind).name: kind
    for kind in onnx.helper.get_all_tensor_dtypes()
}


def onnx_graph(
    path: Path, shapes: Mapping[str, tuple[int, ...]], seen: Mapping[str, Tensor]
) -> Graph:
    """The file's main graph.

    Args:
        path: an ONNX file; weights beside it are not read.
        shapes: of the inputs.
        seen: what the engine says of other tensors. What neither it nor ONNX's shape inference
            can tell stays unknown.
    """
    model = onnx.load(path, load_external_data=False)
    _set_shapes(model.graph, shapes, seen)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    inferred = (*graph.input, *graph.value_info, *graph.output)
    tensors = {**seen, **{value.name: _tensor(value) for value in inferred}}
    for tensor in graph.initializer:
        tensors[tensor.name] = Tensor(_dtype(tensor.data_type), tuple(tensor.dims), stored=True)
    notes: dict[str, str] = {}
    for node in graph.node:
        module = next((note.value for note in node.metadata_props if note.key == MODULE), "")
        if module:
            notes |= dict.fromkeys(filter(None, node.output), module)
    return Graph(tuple(map(_operator, graph.node)), tensors, notes)


def _set_shapes(
    graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], seen: Mapping[str, Tensor]
) -> None:
    """Sizes instead of names of sizes, which would win over what is inferred from them."""
    for value in graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    results = {value.name for value in graph.output}
    for name, tensor in seen.items():
        kind = _KINDS.get(tensor.dtype)
        if kind is not None and name not in results:
            graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, tensor.shape))


def _operator(node: onnx.NodeProto) -> Operator:
    integers = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
    return Operator(node.name, node.op_type, tuple(node.input), tuple(node.output), integers)


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
