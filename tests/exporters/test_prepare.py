from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters.prepare import prepare_onnx
from onnx import TensorProto, helper

from edgekit import runtimes
from edgekit.errors import ExportError, ModelReferenceError


def _save(folder: Path, nodes: list, constants: dict[str, np.ndarray], opset: int = 17) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, folder / "source.onnx")
    return folder / "source.onnx"


def _norm_constants(channels: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "w": generator.standard_normal((channels, 3, 3, 3)).astype(np.float32),
        "b": generator.standard_normal(channels).astype(np.float32),
        "gamma": generator.uniform(0.5, 2, channels).astype(np.float32),
        "beta": generator.standard_normal(channels).astype(np.float32),
        "mean": generator.standard_normal(channels).astype(np.float32),
        "var": generator.uniform(0.1, 2, channels).astype(np.float32),
    }


def _run(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    with runtimes.get("onnxruntime").load(path) as session:
        (name,) = [spec.name for spec in session.outputs]
        return session.run({"x": x})[name]


@pytest.mark.parametrize("bias", [[], ["b"]])
def test_batch_norm_is_folded_into_the_convolution(tmp_path: Path, bias: list[str]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", *bias], ["c"], name="conv"),
        helper.make_node(
            "BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], epsilon=1e-3
        ),
    ]
    source = _save(tmp_path, nodes, _norm_constants(4))
    target = prepare_onnx(source, tmp_path / "prepared.onnx")
    assert [node.op_type for node in ir.load(target).graph] == ["Conv"]
    assert [value.name for value in ir.load(target).graph.outputs] == ["y"]
    np.testing.assert_allclose(_run(target), _run(source), rtol=1e-4, atol=1e-5)


def test_batch_norm_of_a_tensor_that_others_read_is_kept(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Add", ["n", "c"], ["y"]),
    ]
    source = _save(tmp_path, nodes, _norm_constants(4))
    target = prepare_onnx(source, tmp_path / "prepared.onnx")
    assert "BatchNormalization" in {node.op_type for node in ir.load(target).graph}
    np.testing.assert_allclose(_run(target), _run(source), rtol=1e-5)


def test_identities_go_but_not_the_names_of_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("Neg", ["c"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    source = _save(tmp_path, nodes, {})
    target = prepare_onnx(source, tmp_path / "prepared.onnx")
    assert [node.op_type for node in ir.load(target).graph] == ["Relu", "Neg"]
    assert [value.name for value in ir.load(target).graph.outputs] == ["y"]
    np.testing.assert_array_equal(_run(target), _run(source))


def test_constant_nodes_become_initializers_and_shapes_are_known(tmp_path: Path) -> None:
    value = onnx.numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["one"], value=value),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    target = prepare_onnx(_save(tmp_path, nodes, {}), tmp_path / "prepared.onnx")
    graph = ir.load(target).graph
    assert "one" in graph.initializers
    assert graph.outputs[0].dtype == ir.DataType.FLOAT


def test_an_opset_too_old_for_qdq_is_converted(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    target = prepare_onnx(_save(tmp_path, [node], {}, opset=9), tmp_path / "prepared.onnx")
    assert ir.load(target).opset_imports[""] >= 13


def test_missing_foreign_and_invalid_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelReferenceError, match="no such file"):
        prepare_onnx(tmp_path / "no.onnx", tmp_path / "out.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelReferenceError, match="is not an ONNX file"):
        prepare_onnx(tmp_path / "text.onnx", tmp_path / "out.onnx")
    broken = _save(tmp_path, [helper.make_node("Relu", ["nowhere"], ["y"])], {})
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        prepare_onnx(broken, tmp_path / "out.onnx")
