"""OpenVINO IR and TensorRT-RTX engines, built for real from the real ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.tensorrt_engine import GPU_TARGETS, check_gpu
from onnx import TensorProto, helper

from edgekit import exporters, runtimes
from edgekit.errors import ExportError, RuntimeUnavailableError
from tests.conftest import SHAPE, batches

SHAPES = {"image": ShapeRange((1, *SHAPE), (1, *SHAPE), (8, *SHAPE))}


def _unknown_operator(folder: Path) -> Path:
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="com.example")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), ir_version=10, opset_imports=opsets
    )
    onnx.save(model, folder / "odd.onnx")
    return folder / "odd.onnx"


def test_openvino_ir_computes_what_the_onnx_file_does(onnx_file: Path, tmp_path: Path) -> None:
    files = exporters.get("openvino").export(onnx_file, tmp_path / "m", ExportOptions(None, SHAPES))
    assert [file.suffix for file in files] == [".xml", ".bin"]
    feeds = next(batches())
    with (
        runtimes.get("onnxruntime").load(onnx_file) as wanted,
        runtimes.get("openvino").load(files[0]) as got,
    ):
        np.testing.assert_allclose(
            got.run(feeds)["logits"], wanted.run(feeds)["logits"], rtol=1e-3, atol=1e-5
        )


def test_int8_ir_stores_int8(built: Path) -> None:
    sizes = {name: (built / "openvino" / f"{name}.bin").stat().st_size for name in ("fp32", "int8")}
    assert sizes["int8"] < 0.6 * sizes["fp32"]


def test_an_input_keeps_its_name_where_openvino_removes_what_reads_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "none"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in "xy")
    none = onnx.numpy_helper.from_array(np.zeros(4, np.int64), "none")
    graph = helper.make_graph(nodes, "g", [x], [y], [none])
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[opset]), tmp_path / "p.onnx")
    file = exporters.get("openvino").export(
        tmp_path / "p.onnx", tmp_path / "p", ExportOptions(None, {})
    )[0]
    with runtimes.get("openvino").load(file) as session:
        assert [spec.name for spec in session.inputs] == ["x"]
        made = session.run({"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(made["y"], np.ones((2, 3)))


def test_openvino_names_what_it_cannot_convert(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Frobnicate"):
        exporters.get("openvino").export(
            _unknown_operator(tmp_path), tmp_path / "m", ExportOptions(None, {})
        )


@pytest.mark.parametrize("gpu", ["sm80", "sm89"])
def test_tensorrt_engine_is_cross_built_without_a_gpu(
    onnx_file: Path, tmp_path: Path, gpu: str
) -> None:
    (engine,) = exporters.get("tensorrt-rtx").export(
        onnx_file, tmp_path / "m", ExportOptions(gpu, SHAPES)
    )
    assert engine.suffix == ".engine"
    assert engine.stat().st_size > 10_000


def test_a_gpu_that_cannot_run_the_network_is_one_clear_line(
    onnx_file: Path, tmp_path: Path
) -> None:
    # TensorRT-RTX has no float32 matrix product for Turing.
    with pytest.raises(ExportError, match="Turing") as caught:
        exporters.get("tensorrt-rtx").export(
            onnx_file, tmp_path / "m", ExportOptions("sm75", SHAPES)
        )
    assert "\n" not in str(caught.value)


def test_tensorrt_names_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="odd"):
        exporters.get("tensorrt-rtx").export(
            _unknown_operator(tmp_path), tmp_path / "m", ExportOptions("sm89", {})
        )


def test_gpu_names_are_checked() -> None:
    assert check_gpu("SM_89") == "sm89"
    with pytest.raises(ExportError, match="did you mean 'sm89'"):
        check_gpu("sm98")
    assert "sm89" in GPU_TARGETS


def test_the_opset_is_the_newest_that_all_runtimes_read() -> None:
    assert exporters.opset_for(["onnxruntime", "openvino"]) == 21
    assert exporters.opset_for(["onnxruntime", "tensorrt-rtx"]) == 20


def test_an_unknown_runtime_suggests_the_nearest() -> None:
    with pytest.raises(RuntimeUnavailableError, match="did you mean 'openvino'"):
        exporters.get("openvin")
