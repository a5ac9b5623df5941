from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgekit.exporters import prepare
from edgekit.exporters.passes.base import PassUndoneWarning, Rewrite
from edgekit.exporters.prepare import prepare_onnx
from onnx import TensorProto, helper

from edgekit import runtimes
from edgekit.errors import ExportError, ModelReferenceError
from tests.exporters.blocks import assert_same, exported, operators


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


def test_functions_of_an_older_operator_set_are_converted_with_the_graph(tmp_path: Path) -> None:
    """ReduceMean has its axes as an attribute before operator set 18 and as an input from then."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    mean = helper.make_node("ReduceMean", ["a"], ["b"], axes=[1])
    function = helper.make_function("local", "Mean", ["a"], ["b"], [mean], opsets[:1])
    infos = (("x", ["n", 3, 6, 6]), ("y", ["n", 1, 6, 6]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in infos)
    graph = helper.make_graph(
        [helper.make_node("Mean", ["x"], ["y"], domain="local")], "g", [x], [y]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets, functions=[function])
    source = tmp_path / "source.onnx"
    onnx.save(model, source)
    target = prepare_onnx(source, tmp_path / "prepared.onnx", opset=18)
    (node,) = ir.load(target).graph
    assert (node.op_type, len(node.inputs)) == ("ReduceMean", 2)
    np.testing.assert_array_equal(_run(target), _run(source))


def test_a_pass_that_is_undone_warns_and_the_file_is_right_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(graph: ir.Graph) -> int:
        graph.node(0).op_type = "Sigmoid"
        return 1

    monkeypatch.setattr(prepare, "_PASSES", (Rewrite("spoil", spoil),))
    source = _save(tmp_path, [helper.make_node("Relu", ["x"], ["y"], name="relu")], {})
    with pytest.warns(PassUndoneWarning, match="Graph pass spoil was undone: from node 'relu' on"):
        target = prepare_onnx(source, tmp_path / "prepared.onnx")
    np.testing.assert_array_equal(_run(target), _run(source))


def test_a_result_that_two_operators_compute_alike_is_computed_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("Pow", ["a", "two"], ["c"]),
        helper.make_node("Pow", ["b", "also_two"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    source = _save(tmp_path, nodes, {"two": np.float32(2), "also_two": np.float32(2)})
    target = prepare_onnx(source, tmp_path / "prepared.onnx")
    assert [node.op_type for node in ir.load(target).graph] == ["Relu", "Pow", "Add"]
    np.testing.assert_array_equal(_run(target), _run(source))


class _ByHand(torch.nn.Module):
    """A pre-norm feed-forward block whose normalization and GELU are written as formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.rand(8) + 0.5)
        self.bias = torch.nn.Parameter(torch.randn(8))
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        spread = torch.sqrt(centered.pow(2).mean(-1, keepdim=True) + 1e-5)
        h = self.up(centered / spread * self.scale + self.bias)
        h = 0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * torch.pow(h, 3))))
        return x + self.down(h)


def test_formulas_as_pytorch_exports_them_become_operators_that_engines_know(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    axes = {0: "batch", 1: "sequence"}
    source, target = exported(_ByHand(), {"x": torch.randn(2, 3, 8)}, tmp_path, axes)
    assert sorted(operators(target)) == ["Add", "Gelu", "LayerNormalization", "MatMul"]
    assert_same(source, target, [{"x": torch.randn(1, 5, 8).numpy()}])


def test_missing_foreign_and_invalid_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelReferenceError, match="no such file"):
        prepare_onnx(tmp_path / "no.onnx", tmp_path / "out.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelReferenceError, match="is not an ONNX file"):
        prepare_onnx(tmp_path / "text.onnx", tmp_path / "out.onnx")
    broken = _save(tmp_path, [helper.make_node("Relu", ["nowhere"], ["y"])], {})
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        prepare_onnx(broken, tmp_path / "out.onnx")
