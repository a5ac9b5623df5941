"""OpenVINO IR, built for real from the real ONNX file, and what all exporters have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters import onnx_file as onnx_file_exporter
from edgekit.exporters.passes.base import Rewrite
from onnx import TensorProto, helper

from edgekit import exporters, runtimes
from edgekit.errors import ExportError, RuntimeUnavailableError
from tests.conftest import SHAPE, batches
from tests.engines import network

SHAPES = {"image": ShapeRange((1, *SHAPE), (1, *SHAPE), (8, *SHAPE))}


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


def test_a_fusion_that_changes_a_result_is_undone_in_what_is_deployed(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(graph: ir.Graph) -> int:
        relu = next(node for node in graph if node.op_type == "Relu")
        relu.op_type = "Sigmoid"
        return 1

    monkeypatch.setattr(onnx_file_exporter, "_PASSES", (Rewrite("spoil", spoil),))
    told: list[str] = []
    options = ExportOptions(None, {}, told=told.append)
    (path,) = exporters.get("onnxruntime").export(onnx_file, tmp_path / "m", options)
    assert "Sigmoid" not in {node.op_type for node in ir.load(path).graph}
    assert [note.partition(":")[0] for note in told] == ["Graph pass spoil was undone"]


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
    odd = network(
        tmp_path / "odd.onnx",
        [helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="com.example")],
    )
    with pytest.raises(ExportError, match="Frobnicate"):
        exporters.get("openvino").export(odd, tmp_path / "m", ExportOptions(None, {}))


def test_the_opset_is_the_newest_that_all_runtimes_read() -> None:
    assert exporters.opset_for(["onnxruntime", "openvino"]) == 21
    assert exporters.opset_for(["onnxruntime", "tensorrt-rtx"]) == 20


def test_an_unknown_runtime_suggests_the_nearest() -> None:
    with pytest.raises(RuntimeUnavailableError, match="did you mean 'openvino'"):
        exporters.get("openvin")
