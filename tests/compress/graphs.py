"""Small ONNX graphs made by hand, the context a pass gets, and ways to run and compare them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from edgekit.calibration import Calibrator

from edgekit import runtimes
from edgekit.compress.base import GraphContext
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.fidelity import worst_sqnr as sqnr
from edgekit.machine import this_machine
from edgekit.numerics import parse_target, probe
from edgekit.spec import Feeds, Outputs

__all__ = ["HERE", "context", "model_of", "node", "random", "run", "sqnr"]

#: The class of this machine: artifacts made for another may overflow on it.
HERE = probe(this_machine().features)

node = onnx.helper.make_node


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Iterable[str] = ("y",),
    opset: int = 20,
) -> ir.Model:
    """A checked model with inferred types; nodes without a name get one."""
    for index, one in enumerate(nodes):
        one.name = one.name or f"{one.op_type}_{index}"
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        list(nodes),
        "g",
        [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    proto = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", opset)]
    )
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    return ir.from_proto(proto)


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(model: ir.Model, feeds: Feeds, runtime: str = "onnxruntime") -> Outputs:
    """What the model computes, from a file, as an engine loads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path)
        onnx.checker.check_model(str(path), full_check=True)
        with runtimes.require(runtime).load(path) as session:
            return session.run(feeds)


def context(
    feeds: Sequence[Feeds],
    engine: str = "onnxruntime",
    *,
    target: str = HERE.name,
    keep_float: Iterable[str] = (),
) -> GraphContext:
    return GraphContext(
        profile=PROFILES[engine],
        profiles=(PROFILES[engine],),
        calibrator=Calibrator(lambda: iter(feeds)),
        target=parse_target(target),
        keep_float=frozenset(keep_float),
    )
