"""Zeros in the weights reach the engine that can use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import openvino as ov
import pytest
import tensorrt_rtx as trt
from edgekit.exporters import ExportOptions
from edgekit.exporters.sparse_weights import has_sparse_int8, has_two_of_four
from edgekit.runtimes import SessionOptions
from onnx import TensorProto, helper, numpy_helper

from edgekit import exporters, runtimes

RATE = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"


def two_of_four(outputs: int, inputs: int) -> np.ndarray:
    weight = np.random.default_rng(0).integers(1, 100, (outputs, inputs)).astype(np.float32)
    weight.reshape(-1, 4)[:, [0, 2]] = 0
    return weight


def dense(outputs: int, inputs: int) -> np.ndarray:
    return two_of_four(outputs, inputs) + 1


def graph(op: str, weight: np.ndarray, **attributes: int) -> onnx.ModelProto:
    """One float operator with that weight."""
    shape = ["batch", weight.shape[1], 8, 8] if op == "Conv" else ["batch", 64]
    return _model(shape, [helper.make_node(op, ["x", "w"], ["y"], **attributes)], {"w": weight})


def quantized(weight: np.ndarray) -> onnx.ModelProto:
    """``x @ weight.T`` in int8, as edgekit's passes write it."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "none"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    constants = {
        "step": np.float32(0.05),
        "zero": np.uint8(128),
        "scale": np.float32(0.01),
        "none": np.int8(0),
        "w": np.ascontiguousarray(weight.T).astype(np.int8),
    }
    return _model(["batch", weight.shape[1]], nodes, constants)


def _model(
    shape: list[int | str], nodes: list[onnx.NodeProto], constants: dict[str, Any]
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


SPARSE, DENSE = two_of_four(32, 64), dense(32, 64)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (graph("MatMul", SPARSE.T), True),
        (graph("MatMul", SPARSE.T + 1), False),
        (graph("Gemm", SPARSE.T), True),
        (graph("Gemm", SPARSE, transB=1), True),
        (graph("Gemm", DENSE, transB=1), False),
        (graph("Conv", np.moveaxis(SPARSE.reshape(32, 2, 2, 16), -1, 1)), True),
        (graph("Conv", SPARSE.reshape(32, 4, 4, 4)), False),
        (graph("Conv", np.zeros((8, 4, 1, 1), np.float32)), False),
        (graph("Conv", np.zeros((8, 3, 1, 1), np.float32)), False),
        (quantized(SPARSE), True),
        (quantized(DENSE), False),
    ],
    ids=[
        "matmul", "dense matmul", "gemm", "gemm transposed", "dense gemm", "conv",
        "conv along its kernel", "all zero", "3 channels", "int8", "dense int8",
    ],
)  # fmt: skip
def test_two_of_four_is_along_the_input_channels(model: onnx.ModelProto, expected: bool) -> None:
    assert has_two_of_four(ir.serde.deserialize_model(model)) is expected


def _exported(runtime: str, model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    options = ExportOptions("sm89" if runtime == "tensorrt-rtx" else None, {})
    return exporters.get(runtime).export(folder / "m.onnx", folder / "out", options)[0]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (two_of_four(128, 64), 0.5),
        (dense(128, 64), None),
        (two_of_four(32, 64), None),
    ],
    ids=["sparse", "dense", "a side that OpenVINO cannot pack"],
)
def test_openvino_is_told_to_pack_sparse_int8_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: np.ndarray, expected: float | None
) -> None:
    path = _exported("openvino", quantized(weight), tmp_path)
    assert has_sparse_int8(ov.Core().read_model(path)) is (expected is not None)
    rates = []
    original = ov.Core.compile_model

    def watched(self: ov.Core, *args: Any) -> ov.CompiledModel:
        compiled = original(self, *args)
        rates.append(compiled.get_property(RATE))
        return compiled

    monkeypatch.setattr(ov.Core, "compile_model", watched)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)}
    with (
        runtimes.get("openvino").load(path, SessionOptions(threads=1)) as got,
        runtimes.get("onnxruntime").load(tmp_path / "m.onnx") as wanted,
    ):
        np.testing.assert_allclose(got.run(feeds)["y"], wanted.run(feeds)["y"], atol=1e-3)
    assert rates == [1.0 if expected is None else expected]


@pytest.mark.parametrize("sparse", [True, False])
def test_tensorrt_may_use_sparse_kernels_where_weights_are_two_of_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse: bool
) -> None:
    flags = []
    original = trt.Builder.build_serialized_network

    def watched(self: trt.Builder, network: Any, config: Any) -> Any:
        flags.append(config.get_flag(trt.BuilderFlag.SPARSE_WEIGHTS))
        return original(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", watched)
    model = graph("MatMul", (SPARSE if sparse else DENSE).T)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    assert _exported("tensorrt-rtx", model, tmp_path).stat().st_size > 0
    assert flags == [sparse]
