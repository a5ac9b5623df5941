from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.compress.quantize.placement import PROFILES, plan


def _model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> ir.Model:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [info("x", onnx.TensorProto.FLOAT, ["batch", 4])],
        [info("y", onnx.TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def _planned(model: ir.Model, profile: str) -> list[str]:
    return [node.node.op_type for node in plan(model, PROFILES[profile]).nodes]


SQUARE = np.ones((4, 4), np.float32)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_convolutions_linears_and_residual_adds_are_quantized(
    graph: ir.Model, profile: str
) -> None:
    assert _planned(graph, profile) == ["Conv", "Conv", "Add", "Gemm"]


def test_an_add_of_float_tensors_stays_float() -> None:
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"], name="add")
    assert _planned(_model([node], {}), "openvino") == []


def test_adding_a_constant_stays_float() -> None:
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["m"], name="m"),
        onnx.helper.make_node("Add", ["m", "b"], ["y"], name="a"),
    ]
    model = _model(nodes, {"w": SQUARE, "b": np.ones(4, np.float32)})
    assert _planned(model, "openvino") == ["MatMul"]


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}])
def test_a_gemm_with_factors_stays_float(attributes: dict[str, float]) -> None:
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], name="g", **attributes)
    assert _planned(_model([node], {"w": SQUARE}), "onnxruntime") == []


def test_a_product_of_two_computed_tensors_stays_float() -> None:
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["t"], name="t"),
        onnx.helper.make_node("MatMul", ["x", "t"], ["y"], name="m"),
    ]
    assert _planned(_model(nodes, {}), "openvino") == []


def test_a_fused_activation_moves_the_quantized_tensor_behind_it() -> None:
    kernel = np.ones((4, 4, 1, 1), np.float32)
    info = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
        onnx.helper.make_node("Relu", ["c"], ["y"], name="r"),
    ]
    proto = onnx.helper.make_graph(
        nodes,
        "g",
        [info("x", onnx.TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [info("y", onnx.TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [onnx.numpy_helper.from_array(kernel, "w")],
    )
    model = onnx.helper.make_model(
        proto, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    (node,) = plan(inferred, PROFILES["onnxruntime"]).nodes
    assert [value.name for value in node.tensors] == ["x", "y"]
