"""What engines tell of the operators they execute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.onnx_operators import MODULE, onnx_graph
from edgekit.runtimes.tensorrt_timer import layer_profiler, read_layers
from edgekit.runtimes.timer import Tensor, Timings, open_timer

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import RuntimeUnavailableError
from tests.conftest import READ_ONNX, batches

FEEDS = {"image": next(batches())["image"]}


def _timed(name: str, path: Path, **options: object) -> Timings:
    with open_timer(runtimes.get(name), path, SessionOptions(threads=1, **options)) as timer:
        for _ in range(2):
            timer.turn(FEEDS, 3)
        return timer.finish()


@pytest.mark.parametrize("name", READ_ONNX)
def test_each_inference_has_a_time_and_one_for_each_operator(name: str, onnx_file: Path) -> None:
    found = _timed(name, onnx_file)
    assert found.whole_ns.shape == (6,)
    assert found.layers_ns.shape == (6, len(found.executed))
    assert (found.layers_ns.sum(1) > 0).all()
    assert (found.layers_ns.mean(0).sum() < found.whole_ns.mean()).all()


@pytest.mark.parametrize("name", READ_ONNX)
def test_operators_read_from_those_before_them(name: str, onnx_file: Path) -> None:
    executed = _timed(name, onnx_file).executed
    assert any(one.reads for one in executed)
    assert all(max(one.reads, default=-1) < place for place, one in enumerate(executed))


@pytest.mark.parametrize("name", READ_ONNX)
def test_more_samples_move_more_bytes(name: str, onnx_file: Path) -> None:
    with open_timer(runtimes.get(name), onnx_file, SessionOptions(threads=1)) as timer:
        timer.turn({"image": FEEDS["image"][:2]}, 1)
        few = timer.finish()
    many = _timed(name, onnx_file)
    assert sum(one.bytes or 0 for one in few.executed) < sum(
        one.bytes or 0 for one in many.executed
    )


def test_nothing_is_left_on_the_disk(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _timed("onnxruntime", onnx_file)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeUnavailableError):
        open_timer(runtimes.get("onnxruntime"), tmp_path / "no.onnx", SessionOptions())
    assert not list(tmp_path.iterdir())


def test_a_file_of_onnx_runtimes_own_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="of its own format"):
        open_timer(runtimes.get("onnxruntime"), tmp_path / "x.ort", SessionOptions())


def test_a_device_that_hands_work_on_is_refused(bundle: Bundle) -> None:
    path = bundle.file(bundle.manifest.artifact("openvino-fp32"))
    with pytest.raises(RuntimeUnavailableError, match="device AUTO"):
        open_timer(runtimes.get("openvino"), path, SessionOptions(device="AUTO"))


def test_the_modules_of_pytorch_are_noted_in_openvinos_format(bundle: Bundle) -> None:
    path = bundle.file(bundle.manifest.artifact("openvino-int8"))
    assert "stem.0 (Conv2d)" in _timed("openvino", path).graph.notes.values()


def test_the_operators_of_a_file_have_the_shapes_of_the_call(onnx_file: Path) -> None:
    graph = onnx_graph(onnx_file, {"image": (3, 3, 16, 16)}, {})
    conv = next(one for one in graph.operators if one.op == "Conv")
    assert graph.tensors[conv.outputs[0]] == Tensor("float32", (3, 8, 16, 16))
    assert graph.tensors[conv.inputs[1]].stored
    assert graph.notes[conv.outputs[0]] == "stem.0 (Conv2d)"


def test_what_the_engine_says_goes_on_from_where_inference_stops(tmp_path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Strange", ["x"], ["s"], domain="com.example"),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, kind, ["n"])] for name in "xy"]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends), opset_imports=opsets)
    onnx.save(model, tmp_path / "m.onnx")
    assert onnx_graph(tmp_path / "m.onnx", {"x": (4,)}, {}).tensors["y"].shape is None
    seen = {"s": Tensor("float32", (7,))}
    assert onnx_graph(tmp_path / "m.onnx", {"x": (4,)}, seen).tensors["y"].shape == (7,)


def test_the_note_is_where_the_exporter_writes_it() -> None:
    from edgekit.exporters.graph import MODULE as WRITTEN

    assert MODULE == WRITTEN


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2, 3), 24), ("int4", (3,), 2), ("bfloat16", (2,), 4), ("float32", None, None),
     ("", (2,), None), ("object", (2,), None)],
)  # fmt: skip
def test_bytes_of_a_tensor(dtype: str, shape: tuple[int, ...] | None, size: int | None) -> None:
    assert Tensor(dtype, shape).nbytes == size


#: As TensorRT 10's engine inspector writes it, with detailed verbosity and without.
INSPECTED = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to node_conv + node_relu",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "image", "Dimensions": [1, 3, 8, 8],
                        "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "r", "Dimensions": [1, 3, 8, 8],
                         "Format/Datatype": "Half"}],
        },
        {
            "Name": "node_conv + node_relu",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "r", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 4, 8, 8], "Format/Datatype": "Half"}],
            "Weights": {"Type": "Half", "Count": 108},
            "TacticName": "sm80_xmma_fprop",
        },
    ]
}  # fmt: skip


def test_the_layers_of_an_engine_are_read() -> None:
    first, second = read_layers(json.dumps(INSPECTED))
    assert first.inserted
    assert (second.op, second.precision, second.kernel) == (
        "Convolution",
        "fp16",
        "sm80_xmma_fprop",
    )
    assert second.computes[1:] == ("node_conv", "node_relu")
    assert second.reads == (0,)
    assert second.bytes == 2 * (3 * 64 + 4 * 64 + 108)


def test_an_engine_that_gives_names_only_gives_names() -> None:
    (layer,) = read_layers(json.dumps({"Layers": ["PWN(PWN(node_sigmoid), node_mul)"]}))
    assert layer.computes[1:] == ("node_sigmoid", "node_mul")
    assert (layer.op, layer.bytes) == ("", None)


def test_the_profiler_sums_what_the_engine_reports() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    profiler = layer_profiler(trt)
    assert isinstance(profiler, trt.IProfiler)
    for ms in (0.5, 0.25):
        profiler.report_layer_time("conv", ms)
    assert profiler.times == {"conv": 0.75}
    assert np.isclose(sum(profiler.times.values()), 0.75)
