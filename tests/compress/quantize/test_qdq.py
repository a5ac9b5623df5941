from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.calibration import Calibrator, Estimator
from onnx_ir.passes import common

from edgekit import runtimes
from edgekit.compress.quantize import qdq
from edgekit.compress.quantize.placement import PROFILES, plan
from edgekit.compress.quantize.qdq import insert_qdq
from edgekit.fidelity import FidelityMeter
from tests.compress.graphs import model_of, random, run, sqnr
from tests.conftest import READ_ONNX, batches
from tests.exporters.blocks import unoptimized


def _quantized(onnx_file: Path, profile_name: str) -> ir.Model:
    model = ir.load(onnx_file)
    profile = PROFILES[profile_name]
    placement = plan(model, profile)
    table = Calibrator(batches).table(model, placement.tensors, Estimator(name="min-max"))
    assert insert_qdq(model, placement, table.ranges, profile) == placement.nodes
    common.RemoveUnusedNodesPass()(model)
    return model


def _ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def _sqnr(reference: Path, quantized: Path, runtime: str) -> float:
    meter = FidelityMeter()
    with (
        runtimes.get("onnxruntime").load(reference) as wanted,
        runtimes.get(runtime).load(quantized) as got,
    ):
        for feeds in batches(2, seed=1):
            meter.add(wanted.run(feeds)["logits"], got.run(feeds)["logits"])
    return meter.result().sqnr_db


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_quantized_graph_is_valid_and_close_to_float(
    onnx_file: Path, tmp_path: Path, profile: str
) -> None:
    path = tmp_path / "int8.onnx"
    ir.save(_quantized(onnx_file, profile), path)
    onnx.checker.check_model(str(path), full_check=True)
    runtime = profile if profile in READ_ONNX else "onnxruntime"
    assert _sqnr(onnx_file, path, runtime) > 20.0


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_weights_are_stored_as_int8_and_no_float_copy_is_left(
    onnx_file: Path, profile: str
) -> None:
    model = _quantized(onnx_file, profile)
    for node in model.graph:
        if node.op_type in {"Conv", "Gemm"}:
            source = node.inputs[1].producer()
            assert source.op_type == "DequantizeLinear"
            assert source.inputs[0].const_value.dtype == ir.DataType.INT8
    large = [
        value.name
        for value in model.graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT and value.const_value.size > 64
    ]
    assert large == []


def test_onnxruntime_gets_int32_bias_and_quantized_outputs(onnx_file: Path) -> None:
    model = _quantized(onnx_file, "onnxruntime")
    convs = [node for node in model.graph if node.op_type == "Conv"]
    assert len(convs) == 2
    for conv in convs:
        bias = conv.inputs[2].producer()
        assert bias.inputs[0].const_value.dtype == ir.DataType.INT32
    relu = next(node for node in model.graph if node.op_type == "Relu")
    assert {use.op_type for use in relu.outputs[0].consumers()} == {"QuantizeLinear"}


def test_onnxruntime_really_runs_integer_convolutions(onnx_file: Path, tmp_path: Path) -> None:
    import onnxruntime as ort

    source, optimized = tmp_path / "int8.onnx", tmp_path / "optimized.onnx"
    ir.save(_quantized(onnx_file, "onnxruntime"), source)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    ops = _ops(ir.load(optimized))
    assert ops.count("QLinearConv") == 2
    assert "Conv" not in ops


def test_tensorrt_gets_symmetric_activations_and_float_bias(onnx_file: Path) -> None:
    model = _quantized(onnx_file, "tensorrt-rtx")
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            zero = node.inputs[2].const_value
            assert zero.dtype == ir.DataType.INT8
            assert int(zero.numpy()) == 0
        if node.op_type == "Conv":
            assert node.inputs[2].const_value.dtype == ir.DataType.FLOAT


def test_one_pair_serves_all_readers_of_a_tensor(onnx_file: Path) -> None:
    model = _quantized(onnx_file, "openvino")
    sources = [n.inputs[0].name for n in model.graph if n.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources))


def test_a_tensor_without_a_range_stays_float(onnx_file: Path) -> None:
    model = ir.load(onnx_file)
    profile = PROFILES["openvino"]
    assert insert_qdq(model, plan(model, profile), {}, profile) == []
    assert "QuantizeLinear" not in _ops(model)


def test_a_quantized_graph_output_keeps_its_name(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "g",
        [info("x", onnx.TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [info("y", onnx.TensorProto.FLOAT, ["batch", 4, 4, 4])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    proto = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    onnx.save(proto, tmp_path / "conv.onnx")
    model = ir.load(tmp_path / "conv.onnx")
    profile = PROFILES["onnxruntime"]
    data = [{"x": np.random.default_rng(1).standard_normal((2, 3, 4, 4)).astype(np.float32)}]
    table = Calibrator(lambda: data).table(model, ["x", "y"], Estimator(name="min-max"))
    insert_qdq(model, plan(model, profile), table.ranges, profile)
    ir.save(model, tmp_path / "int8.onnx")
    with runtimes.get("onnxruntime").load(tmp_path / "int8.onnx") as session:
        assert [spec.name for spec in session.outputs] == ["y"]
        session.run(data[0])


def _pooled() -> ir.Model:
    """A MaxPool between two convolutions."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w0", "b0"], ["c"], name="first", pads=[1] * 4),
        onnx.helper.make_node("Relu", ["c"], ["r"], name="relu"),
        onnx.helper.make_node(
            "MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        onnx.helper.make_node("Conv", ["p", "w1", "b1"], ["y"], name="second"),
    ]
    constants = {
        "w0": random(0, 4, 3, 3, 3),
        "b0": random(1, 4),
        "w1": random(2, 5, 4, 1, 1),
        "b1": random(3, 5),
    }
    return model_of(nodes, constants, {"x": ["batch", 3, 8, 8]})


def _quantized_pooling(profile_name: str) -> ir.Model:
    model = _pooled()
    profile = PROFILES[profile_name]
    placement = plan(model, profile)
    data = [{"x": random(seed, 2, 3, 8, 8)} for seed in range(4)]
    table = Calibrator(lambda: data).table(model, placement.tensors, Estimator(name="min-max"))
    insert_qdq(model, placement, table.ranges, profile)
    common.RemoveUnusedNodesPass()(model)
    return model


def _around(model: ir.Model, name: str) -> tuple[str | None, list[str]]:
    """The operators before and after one."""
    (found,) = (one for one in model.graph if one.name == name)
    before = found.inputs[0].producer()
    return before and before.op_type, [one.op_type for one in found.outputs[0].consumers()]


@pytest.mark.parametrize("profile", ["openvino", "tensorrt-rtx"])
def test_pooling_moves_int8_where_results_are_not_quantized(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = _quantized_pooling(profile)
    assert _around(moved, "pool") == ("DequantizeLinear", ["Conv"])
    assert _around(moved, "relu") == ("Conv", ["QuantizeLinear"])

    monkeypatch.setattr(qdq, "_quantize_before_moving", lambda *_: None)
    behind = _quantized_pooling(profile)
    assert _around(behind, "pool") == ("Relu", ["QuantizeLinear"])
    assert _ops(moved).count("QuantizeLinear") == _ops(behind).count("QuantizeLinear") == 2
    for seed in (7, 8):
        feeds = {"x": 2 * random(seed, 3, 3, 8, 8)}  # also outside the calibrated range
        np.testing.assert_array_equal(run(moved, feeds)["y"], run(behind, feeds)["y"])


def test_pooling_has_a_pair_on_either_side_where_results_are_quantized() -> None:
    model = _quantized_pooling("onnxruntime")
    assert _around(model, "relu") == ("Conv", ["QuantizeLinear"])
    assert _around(model, "pool") == ("DequantizeLinear", ["QuantizeLinear"])
    assert _around(model, "second")[0] == "DequantizeLinear"


def test_a_pooled_result_that_leaves_the_graph_is_quantized_behind() -> None:
    source = _pooled()
    pool = next(one for one in source.graph if one.name == "pool")
    source.graph.outputs.append(pool.outputs[0])
    profile = PROFILES["openvino"]
    feeds = {"x": random(0, 2, 3, 8, 8)}
    wanted = run(source, feeds)
    placement = plan(source, profile)
    table = Calibrator(lambda: [feeds]).table(source, placement.tensors, Estimator(name="min-max"))
    insert_qdq(source, placement, table.ranges, profile)
    got = run(source, feeds)
    assert list(got) == ["y", "p"]
    assert sqnr(wanted, got) > 25.0


@pytest.mark.parametrize("op", ["Flatten", "Transpose", "Squeeze", "Reshape"])
def test_data_is_moved_as_int8_without_another_error(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, attributes = {
        "Flatten": ([], {}),
        "Transpose": ([], {"perm": [0, 2, 3, 1]}),
        "Squeeze": (["axes"], {}),
        "Reshape": (["to"], {}),
    }[op]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w0"], ["c"], name="first"),
        onnx.helper.make_node(op, ["c", *second], ["m"], name="moves", **attributes),
        onnx.helper.make_node("MatMul", ["m", "w1"], ["y"], name="second"),
    ]
    constants = {"w0": random(0, 4, 3, 1, 1), "w1": random(2, 4, 6)}
    constants |= {"axes": np.array([2, 3])} if op == "Squeeze" else {}
    constants |= {"to": np.array([-1, 4])} if op == "Reshape" else {}
    model = model_of(nodes, constants, {"x": ["batch", 3, 1, 1]})
    profile = PROFILES["openvino"]
    placement = plan(model, profile)
    data = [{"x": random(seed, 4, 3, 1, 1)} for seed in range(4)]
    table = Calibrator(lambda: data).table(model, placement.tensors, Estimator(name="min-max"))
    moved, behind = model.clone(), model.clone()
    insert_qdq(moved, plan(moved, profile), table.ranges, profile)
    assert _around(moved, "moves") == ("DequantizeLinear", ["MatMul"])
    monkeypatch.setattr(qdq, "_quantize_before_moving", lambda *_: None)
    insert_qdq(behind, plan(behind, profile), table.ranges, profile)
    np.testing.assert_array_equal(unoptimized(moved, data[0]), unoptimized(behind, data[0]))
