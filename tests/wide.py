"""A model whose weights are worth sharing, and bundles of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from edgekit.runtimes import SessionOptions
from onnx import TensorProto, helper, numpy_helper

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import Recipe
from edgekit.pipeline import make_bundle
from edgekit.spec import Outputs
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.conftest import SHAPE, batches

FEEDS = next(batches())
ENGINES = ("onnxruntime", "openvino")
OPTIONS = SessionOptions(threads=1)


def _network(folder: Path) -> Path:
    """A convolution and two linear layers, 1.3 MB of weights, nearly all in one."""
    generator = np.random.default_rng(0)
    shapes = {"conv": (8, 3, 3, 3), "wide": (2048, 160), "head": (160, 5)}
    weights = [
        numpy_helper.from_array(
            (generator.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32),
            name,
        )
        for name, shape in shapes.items()
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "conv"], ["a"], name="Conv", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], name="Relu_a"),
        node("Flatten", ["b"], ["c"], name="Flatten"),
        node("MatMul", ["c", "wide"], ["d"], name="Wide"),
        node("Relu", ["d"], ["e"], name="Relu_d"),
        node("MatMul", ["e", "head"], ["logits"], name="Head"),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])]
        for name, shape in (("image", SHAPE), ("logits", (5,)))
    ]
    graph = helper.make_graph(nodes, "wide", *ends, weights)
    path = folder / "given.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path


def wide_bundle(out: Path, recipe: Recipe, names: Sequence[str] = ()) -> Bundle:
    workload = Workload(
        name="wide",
        model=_network(out.parent),
        example_inputs={"image": np.zeros((1, *SHAPE), np.float32)},
        dynamic_shapes={"image": {0: "batch"}},
        calibration=batches,
    )
    targets = parse_targets(names, None)
    return make_bundle(workload, out, recipe=recipe, targets=targets, timing=None)


def run(runtime: str, path: Path, options: SessionOptions = OPTIONS) -> Outputs:
    with runtimes.require(runtime).load(path, options) as session:
        return session.run(FEEDS)


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def bits(outputs: Outputs) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in outputs.items()}
