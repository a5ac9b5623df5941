"""Sums of scattered rows as the matrix products that TensorRT reads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import add_constant, producer, take_place
from onnx_ir.passes import common

__all__ = ["multiply_scattered"]


def multiply_scattered(model: ir.Model) -> int:
    """Let a product with zeros and ones add up what a ScatterElements adds up, row by row.

    Graph networks sum messages so. TensorRT 10 and TensorRT-RTX 1 refuse it. The product computes
    places x rows x length values, which a GPU does for some thousand rows, and in the same order
    in every run.

    Returns:
        How many were replaced.
    """
    found = [node for node in model.graph if _adds(node)]
    if found:
        common.ShapeInferencePass()(model)
    return sum(_multiply(model.graph, node) for node in found)


def _adds(node: ir.Node) -> bool:
    return (
        node.op_type == "ScatterElements"
        and not node.domain
        and node.attributes.get_string("reduction", "none") == "add"
        and node.attributes.get_int("axis", 0) == 0
    )


def _rows(indices: ir.Value | None) -> ir.Value | None:
    """One index a row, where all numbers of a row have the same; None where that is not known."""
    spread = producer(indices, "Expand")
    rows = indices if spread is None else spread.inputs[0]
    if rows is None or rows.shape is None or any(dim != 1 for dim in rows.shape[1:]):
        return None
    return rows


def _multiply(graph: ir.Graph, node: ir.Node) -> bool:
    data, indices, updates = node.inputs
    rows = _rows(indices)
    if rows is None or updates is None or updates.dtype is None:
        return False
    name = str(node.outputs[0].name)
    made: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
        made.append(ir.node(op, inputs, attributes, name=f"{node.name}_{op}_{len(made)}"))
        made[-1].outputs[0].name = f"{name}_{op}_{len(made)}"
        made[-1].metadata_props.update(node.metadata_props)
        return made[-1].outputs[0]

    def constant(what: str, value: int | list[int]) -> ir.Value:
        return add_constant(graph, f"{name}_{what}", np.array(value, np.int64))

    zero, one = constant("zero", 0), constant("one", 1)
    dims = add("Shape", data)
    count = add("Gather", dims, zero)
    row = add("Reshape", rows, constant("row", [1, -1]))
    # Like in Python, -1 is the last place.
    place = add("Where", add("Less", row, zero), add("Add", row, count), row)
    places = add("Unsqueeze", add("Range", zero, count, one), constant("axis", [1]))
    chosen = add("Cast", add("Equal", places, place), to=int(updates.dtype))
    sums = add("MatMul", chosen, add("Flatten", updates, axis=1))
    shaped = add("Reshape", sums, dims)
    graph.insert_before(node, made)
    take_place(graph, node, ir.node("Add", [data, shaped], name=node.name))
    return True
