"""Small networks, and real TensorRT-RTX engines of them."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from edgekit.exporters import ExportOptions, ShapeRange
from onnx import TensorProto, helper
from torch import nn

from edgekit import exporters
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import make_bundle
from edgekit.targets import EngineSettings, parse_targets
from edgekit.workload import Workload

__all__ = ["SHAPES", "engine_for", "network", "small_bundle", "small_workload"]

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


def small_workload() -> Workload:
    """Two linear layers."""
    torch.manual_seed(0)
    return Workload(
        name="small",
        model=nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval(),
        example_inputs={"x": torch.randn(2, 8)},
        calibration=lambda: [{"x": torch.randn(64, 8, generator=torch.manual_seed(1)).numpy()}],
    )


def small_bundle(out: Path, recipe: str, gpus: str) -> Bundle:
    """A bundle of them with engines for these GPUs."""
    return make_bundle(
        small_workload(),
        out,
        recipe=load_recipe(recipe),
        targets=parse_targets(["tensorrt-rtx"], gpus),
        timing=None,
        engines=EngineSettings({"batch": (1, 4, 32)}, workspace=2**28),
        source="mine.py:small",
    )
