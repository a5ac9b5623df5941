"""Sums of messages: in order on ONNX Runtime, as products on TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.passes.scattered import CombineInOrder
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.scattered import multiply_scattered
from onnx import TensorProto, helper

from edgekit import exporters

_UFUNC = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _saved(path: Path, rest: tuple[int, ...], reduction: str = "add") -> Path:
    """``y``: ``data`` (places, ...) with ``updates`` (count, ...) scattered to ``indices``."""
    node = helper.make_node(
        "ScatterND", ["data", "indices", "updates"], ["y"], name="sum", reduction=reduction
    )
    inputs = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, ["places", *rest]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["count", 1]),
        helper.make_tensor_value_info("updates", TensorProto.FLOAT, ["count", *rest]),
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["places", *rest])
    graph = helper.make_graph([node], "g", inputs, [result])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, path)
    return path


def _run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    made: np.ndarray = session.run(None, feeds)[0]
    return made


def _feeds(rest: tuple[int, ...]) -> dict[str, np.ndarray]:
    """With an index that comes thrice, and one from the end."""
    generator = np.random.default_rng(0)
    return {
        "data": generator.standard_normal((5, *rest)).astype(np.float32),
        "indices": np.array([[0], [3], [3], [-1], [3], [1]], np.int64),
        "updates": generator.standard_normal((6, *rest)).astype(np.float32),
    }


def _operators(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph}


@pytest.mark.parametrize("reduction", list(_UFUNC))
@pytest.mark.parametrize("rest", [(), (3,), (2, 3)])
def test_rows_are_combined_in_order(tmp_path: Path, rest: tuple[int, ...], reduction: str) -> None:
    feeds = _feeds(rest)
    wanted = feeds["data"].copy()
    _UFUNC[reduction].at(wanted, feeds["indices"][:, 0], feeds["updates"])
    source = _saved(tmp_path / "m.onnx", rest, reduction)
    model = ir.load(prepare_onnx(source, tmp_path / "p.onnx"))
    assert "ScatterElements" in _operators(model)
    assert "ScatterND" not in _operators(model)
    np.testing.assert_allclose(_run(model, feeds), wanted, rtol=1e-6)
    if reduction != "add":
        assert multiply_scattered(model) == 0
        return
    assert multiply_scattered(model) == 1
    assert "ScatterElements" not in _operators(model)
    np.testing.assert_allclose(_run(model, feeds), wanted, rtol=1e-6)


def test_what_replaces_rows_stays(tmp_path: Path) -> None:
    model = ir.load(_saved(tmp_path / "m.onnx", (3,), "none"))
    assert not CombineInOrder()(model).modified


def test_sums_are_right_in_every_run_with_several_threads(tmp_path: Path) -> None:
    prepared = prepare_onnx(_saved(tmp_path / "m.onnx", (64,)), tmp_path / "p.onnx")
    generator = np.random.default_rng(0)
    half = np.sort(generator.integers(0, 200, (1800, 1)), axis=0)  # two threads get the same rows
    feeds = {
        "data": np.zeros((200, 64), np.float32),
        "indices": np.concatenate([half, half]),
        "updates": generator.standard_normal((3600, 64)).astype(np.float32),
    }
    wanted = feeds["data"].copy()
    np.add.at(wanted, feeds["indices"][:, 0], feeds["updates"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(prepared, options)
    for _ in range(400):
        np.testing.assert_allclose(session.run(None, feeds)[0], wanted, atol=1e-4)


def test_tensorrt_builds_it(tmp_path: Path) -> None:
    path = prepare_onnx(_saved(tmp_path / "m.onnx", (2, 3)), tmp_path / "p.onnx")
    before = path.read_bytes()
    shapes = {
        name: ShapeRange((1, *rest), (6, *rest), (40, *rest))
        for name, rest in (("data", (2, 3)), ("indices", (1,)), ("updates", (2, 3)))
    }
    options = ExportOptions("sm89", shapes)
    (engine,) = exporters.get("tensorrt-rtx").export(path, tmp_path / "e", options)
    assert engine.stat().st_size > 0
    assert path.read_bytes() == before
