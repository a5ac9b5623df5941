"""Small networks, and real TensorRT-RTX engines of them."""

from __future__ import annotations

from pathlib import Path

import onnx
from edgekit.exporters import ExportOptions, ShapeRange
from onnx import TensorProto, helper

from edgekit import exporters

__all__ = ["SHAPES", "engine_for", "network"]

SHAPES = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}


def network(
    path: Path, nodes: list[onnx.NodeProto], initializers: tuple[onnx.TensorProto, ...] = ()
) -> Path:
    """A graph from ``x`` (batch, 4) to ``y``, saved."""
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["batch", 4]), ("y", ["batch", None]))
    ]
    graph = helper.make_graph(nodes, "g", *ends, list(initializers))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path


def engine_for(gpu: str, folder: Path) -> Path:
    """A real engine of one Relu, which every GPU generation has."""
    onnx_path = network(folder / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"], name="r")])
    options = ExportOptions(gpu, SHAPES)
    return exporters.get("tensorrt-rtx").export(onnx_path, folder / gpu, options)[0]
