from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.calibration import Calibrator, Estimator
from onnx_ir.passes import common

from edgekit import runtimes
from edgekit.compress.quantize.placement import PROFILES, plan
from edgekit.compress.quantize.qdq import insert_qdq
from edgekit.fidelity import FidelityMeter
from tests.conftest import batches


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
    runtime = profile if profile in runtimes.names() else "onnxruntime"
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
