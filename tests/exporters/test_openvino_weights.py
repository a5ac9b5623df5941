"""The weights of an IR are the very bytes of the ONNX file that it is made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from edgekit.exporters import ExportOptions, get
from onnx import TensorProto, helper, numpy_helper

from edgekit import runtimes

_WIDTH = 48
_TABLE = np.random.default_rng(0).standard_normal((_WIDTH, 32)).astype(np.float32)
_X = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)


def _exported(
    folder: Path, nodes: list[onnx.NodeProto], **weights: np.ndarray
) -> tuple[Path, Path]:
    """The ONNX file of a graph from ``x`` (batch, 32) to ``y``, and its IR."""
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None])]
        for name in ("x", "y")
    ]
    ends[0][0].type.tensor_type.shape.dim[1].dim_value = 32
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", *ends, stored)
    path = folder / "m.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path, get("openvino").export(path, folder / "ir", ExportOptions(None, {}))[0]


def _check(graph: Path, form: Path) -> None:
    """Every large weight is stored once, as in the graph; both compute the same."""
    stored = form.with_suffix(".bin").read_bytes()
    for tensor in onnx.load(graph).graph.initializer:
        assert stored.count(numpy_helper.to_array(tensor).tobytes()) == 1
    assert len(stored) < 1.1 * graph.stat().st_size
    found = []
    for path in (graph, form):
        with runtimes.get("openvino").load(path) as session:
            found.append(session.run({"x": _X})["y"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), _TABLE.T),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), _TABLE.T),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), _TABLE),
    ],
    ids=["MatMul", "Gemm", "Gemm-transB"],
)
def test_a_product_reads_its_weights_as_they_lie(
    tmp_path: Path, node: onnx.NodeProto, weights: np.ndarray
) -> None:
    _check(*_exported(tmp_path, [node], w=np.ascontiguousarray(weights)))


def test_products_that_share_their_weights_go_on_sharing_them(tmp_path: Path) -> None:
    square = np.ascontiguousarray(_TABLE[:32])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="second"),
    ]
    _check(*_exported(tmp_path, nodes, w=square))


def test_a_table_that_is_read_and_multiplied_with_is_stored_once(tmp_path: Path) -> None:
    """As an embedding and the output layer that is tied to it: OpenVINO's transposing is right."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], name="arg", axis=1, keepdims=0),
        helper.make_node("Gather", ["w", "i"], ["e"], name="embed"),
        helper.make_node("Add", ["x", "e"], ["s"], name="add"),
        helper.make_node("Transpose", ["w"], ["t"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["s", "t"], ["y"], name="head"),
    ]
    _check(*_exported(tmp_path, nodes, w=_TABLE))


def test_names_stay_for_who_compares_layers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["inside"], name="product"),
        helper.make_node("Relu", ["inside"], ["y"], name="relu"),
    ]
    _, form = _exported(tmp_path, nodes, w=np.ascontiguousarray(_TABLE.T))
    (product,) = [
        op for op in ov.Core().read_model(form).get_ops() if op.get_type_name() == "MatMul"
    ]
    assert product.get_friendly_name() == "product"
    assert product.output(0).get_names() == {"inside"}
    assert product.get_attributes()["transpose_b"] is False
