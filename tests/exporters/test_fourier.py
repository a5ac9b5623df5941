"""OpenVINO transforms along the axis that the graph names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters import ExportOptions
from edgekit.exporters.fourier import transform_first_axis
from onnx import TensorProto, helper, numpy_helper

from edgekit import exporters, runtimes
from edgekit.errors import ExportError

SHAPE = (2, 8, 6, 4)


def _saved(
    folder: Path,
    axis: int | None,
    *,
    parts: int = 2,
    opset: int = 20,
    more: bool = False,
    **kind: int,
) -> Path:
    """A file of one DFT of ``x``, shape ``(batch, 8, 6, 4, parts)``; ``more`` reads its result."""
    given = ["x", "", "axis"] if axis is not None else ["x"]
    nodes = [helper.make_node("DFT", given, ["t" if more else "y"], **kind)]
    if more:
        nodes.append(helper.make_node("Neg", ["t"], ["y"]))
    stored = [numpy_helper.from_array(np.array(axis, np.int64), "axis")] if axis is not None else []
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE[1:], parts])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def _openvino(path: Path, folder: Path, x: np.ndarray) -> np.ndarray:
    files = exporters.get("openvino").export(path, folder / "ir", ExportOptions(None, {}))
    assert sorted(one.name for one in folder.iterdir()) == ["ir.bin", "ir.xml", "m.onnx"]
    with runtimes.get("openvino").load(files[0]) as session:
        return session.run({"x": x})["y"]


@pytest.mark.parametrize("axis", [1, 2, 3, -2, -3, None])
@pytest.mark.parametrize("inverse", [0, 1])
def test_a_transform_along_any_axis(tmp_path: Path, axis: int | None, inverse: int) -> None:
    x = np.random.default_rng(0).standard_normal((*SHAPE, 2)).astype(np.float32)
    made = _openvino(_saved(tmp_path, axis, inverse=inverse), tmp_path, x)
    along = 3 if axis is None else axis if axis > 0 else axis + 1
    wanted = (np.fft.ifft if inverse else np.fft.fft)(x[..., 0] + 1j * x[..., 1], axis=along)
    np.testing.assert_allclose(made, np.stack([wanted.real, wanted.imag], -1), atol=1e-4)


def test_the_result_may_be_read_by_others(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((*SHAPE, 1)).astype(np.float32)
    made = _openvino(_saved(tmp_path, 2, parts=1, more=True), tmp_path, x)
    wanted = -np.fft.fft(x[..., 0], axis=2)
    np.testing.assert_allclose(made, np.stack([wanted.real, wanted.imag], -1), atol=1e-4)


def test_what_openvino_reads_right_is_left_alone(tmp_path: Path) -> None:
    assert transform_first_axis(ir.load(_saved(tmp_path, 1))) == 0
    assert transform_first_axis(ir.load(_saved(tmp_path, None, opset=17))) == 0
    assert transform_first_axis(ir.load(_saved(tmp_path, 2))) == 1


def test_an_axis_that_is_computed_is_refused(tmp_path: Path) -> None:
    model = onnx.load(_saved(tmp_path, 2))
    model.graph.initializer[0].name = "stored"
    model.graph.node.insert(0, helper.make_node("Abs", ["stored"], ["axis"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="needs to know the axis of a DFT"):
        exporters.get("openvino").export(
            tmp_path / "m.onnx", tmp_path / "ir", ExportOptions(None, {})
        )
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"]
