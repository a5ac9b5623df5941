from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.calibration import Range

from edgekit.compress.quantize.placement import PROFILES, plan, shared_ranges
from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.compress.quantize.qdq import with_shared_scales
from tests.compress.graphs import context, model_of, node, random


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


def _joined() -> ir.Model:
    """Two convolutions joined by a Concat that moves through two operators into a third."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"]),
        node("Conv", ["x", "w0"], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("Concat", ["a", "r"], ["c"], axis=1),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]),
        node("Transpose", ["p"], ["t"], perm=[0, 1, 3, 2]),
        node("Conv", ["t", "w1"], ["y"]),
    ]
    constants = {"w0": random(0, 4, 3, 1, 1), "w1": random(1, 5, 8, 1, 1)}
    return model_of(nodes, constants, {"x": ["n", 3, 8, 8]})


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_concat_and_what_moves_its_data_have_one_scale(profile: str) -> None:
    placement = plan(_joined(), PROFILES[profile])
    assert [chosen.node.op_type for chosen in placement.nodes] == ["Conv", "Conv", "Concat", "Conv"]
    present = dict.fromkeys(placement.tensors, Range(low=0.0, high=1.0))
    one = {"a", "r", "c", "t"} if profile.startswith("onnxruntime") else {"a", "r", "t"}
    assert shared_ranges(placement.shared, present) == [one]
    present["r"] = Range(low=-5.0, high=0.5)
    together = with_shared_scales(present, placement)
    assert {together[name] for name in one} == {Range(low=-5.0, high=1.0)}
    assert together["x"] == present["x"]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_shared_tensors_get_equal_scales_in_the_graph(profile: str) -> None:
    model = _joined()
    data = [{"x": random(2, 2, 3, 8, 8)}]
    Int8Ptq(type="int8-ptq").apply(model, context(data, profile))
    found = {
        str(n.inputs[0].name): float(n.inputs[1].const_value.numpy())
        for n in model.graph
        if n.op_type == "QuantizeLinear"
    }
    moved = "t" if profile.startswith("onnxruntime") else "c"  # others quantize before they move
    assert found["a"] == found["r"] == found[moved] != found["x"]


def test_a_concat_with_a_float_branch_stays_float() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Concat", ["a", "x"], ["y"], axis=1),
    ]
    model = model_of(nodes, {"w": random(0, 4, 3, 1, 1)}, {"x": ["n", 3, 8, 8]})
    assert _planned(model, "onnxruntime") == ["Conv"]


def test_operators_to_keep_float_are_kept_and_what_joined_them_too() -> None:
    model = _joined()
    kept = plan(model, PROFILES["onnxruntime"], {"Conv_0"})
    assert [chosen.node.name for chosen in kept.nodes] == ["Conv_1", "Conv_6"]
    assert kept.tensors == {"x", "r", "t", "y"}


@pytest.mark.parametrize(
    ("profile", "gate", "tensors"),
    [
        ("onnxruntime", "Sigmoid", {"x", "c", "p", "y"}),
        ("openvino", "Sigmoid", {"x", "p"}),
        ("tensorrt-rtx", "Sigmoid", {"x", "p"}),
        ("openvino", "HardSigmoid", {"x", "p"}),
    ],
)
def test_a_gated_activation_is_fused_where_the_engine_fuses_it(
    profile: str, gate: str, tensors: set[str]
) -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["c"]),
        node(gate, ["c"], ["g"]),
        node("Mul", ["c", "g"], ["p"]),
        node("Conv", ["p", "w1"], ["y"]),
    ]
    constants = {"w0": random(0, 4, 3, 1, 1), "w1": random(1, 5, 4, 1, 1)}
    model = model_of(nodes, constants, {"x": ["n", 3, 8, 8]})
    assert plan(model, PROFILES[profile]).tensors == tensors


def test_a_stack_of_matrices_stays_float() -> None:
    model = model_of(
        [node("MatMul", ["x", "w"], ["y"])], {"w": random(0, 3, 8, 5)}, {"x": ["n", 3, 4, 8]}
    )
    assert _planned(model, "onnxruntime") == []
