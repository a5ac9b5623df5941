from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgekit.exporters import save
from edgekit.exporters.prepare import load_onnx, prepare_onnx
from edgekit.exporters.save import save_onnx

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.packing import pack, unpack
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.verify import verify_bundle
from edgekit.workload import Workload


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a protobuf message held 4 kB."""
    monkeypatch.setattr(save, "INLINE_BYTES", 4096)


def _graph() -> ir.Model:
    weight = ir.tensor(np.arange(4096, dtype=np.float32).reshape(64, 64), name="w")
    shape = ir.tensor(np.array([-1, 64]), name="shape")
    values = [ir.val(t.name, const_value=t) for t in (weight, shape)]
    x = ir.val("x", ir.DataType.FLOAT, ["batch", 8, 8])
    flat = ir.node("Reshape", [x, values[1]])
    y = ir.val("y", ir.DataType.FLOAT, ["batch", 64])
    nodes = [flat, ir.node("MatMul", [flat.outputs[0], values[0]], outputs=[y])]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=values, opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10)


def _location(path: Path) -> dict[str, bool]:
    """Which tensors lie outside."""
    graph = onnx.load(path, load_external_data=False).graph
    return {one.name: bool(one.external_data) for one in graph.initializer}


def test_weights_that_do_not_fit_lie_beside_and_small_ones_inside(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert save_onnx(_graph(), path, inline_bytes=10_000) == [path, tmp_path / "m.data"]
    assert _location(path) == {"w": True, "shape": False}
    assert (tmp_path / "m.data").stat().st_size == 64 * 64 * 4


def test_what_fits_is_one_file_wherever_it_was_before(tmp_path: Path) -> None:
    save_onnx(_graph(), tmp_path / "m.onnx", inline_bytes=0)
    other = tmp_path / "other" / "m.onnx"
    other.parent.mkdir()
    assert save_onnx(ir.load(tmp_path / "m.onnx"), other) == [other]
    assert _location(other) == {"w": False, "shape": False}


def test_a_file_is_replaced_by_what_was_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_onnx(_graph(), path, inline_bytes=0)
    for inline_bytes in (0, 0, 100_000):
        save_onnx(ir.load(path), path, inline_bytes=inline_bytes)
        weight = load_onnx(path).graph.initializers["w"].const_value
        assert weight is not None
        np.testing.assert_array_equal(weight.numpy().ravel(), np.arange(4096))
    assert not (tmp_path / "m.data").exists()


@pytest.mark.usefixtures("_small_files")
def test_a_model_over_the_limit_passes_every_stage(tmp_path: Path) -> None:
    save_onnx(_graph(), tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((8, 8, 8)).astype(np.float32)
    workload = Workload(
        name="table",
        model=tmp_path / "m.onnx",
        example_inputs={"x": x},
        calibration=lambda: [{"x": x}],
    )
    bundle = make_bundle(
        workload,
        tmp_path / "table.edge",
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=None,
    )
    artifacts = {
        one.id: [Path(file.path).name for file in one.files] for one in bundle.manifest.artifacts
    }
    assert artifacts["onnxruntime-fp32"] == ["model.onnx", "model.data"]
    assert artifacts["openvino-fp32"] == ["fp32.xml", "fp32.bin"]
    assert artifacts["onnxruntime-int8"] == ["onnxruntime-int8.onnx", "onnxruntime-int8.data"]
    pack(bundle, tmp_path / "table.edge.tar.zst")
    again = unpack(tmp_path / "table.edge.tar.zst", tmp_path / "again.edge")
    assert all(record.passed for record in verify_bundle(again))
    (again.path / "model.data").write_bytes(bytes(64 * 64 * 4))
    with pytest.raises(Exception, match=r"model\.data"):
        Bundle.open(again.path)


@pytest.mark.usefixtures("_small_files")
def test_a_prepared_file_over_the_limit_computes_the_same(tmp_path: Path) -> None:
    save_onnx(_graph(), tmp_path / "m.onnx")
    path = prepare_onnx(tmp_path / "m.onnx", tmp_path / "p.onnx")
    assert any(_location(path).values())
    x = np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    for engine in ("onnxruntime", "openvino"):
        with runtimes.get(engine).load(path) as session:
            wanted = x.reshape(2, 64) @ np.arange(4096, dtype=np.float32).reshape(64, 64)
            np.testing.assert_allclose(session.run({"x": x})["y"], wanted, rtol=1e-4)
