"""What engines tell of the operators they execute."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgekit.runtimes import SessionOptions
from edgekit.runtimes.onnx_operators import MODULE, onnx_graph
from edgekit.runtimes.onnxruntime import OnnxRuntimeSession
from edgekit.runtimes.openvino_timer import grown
from edgekit.runtimes.tensorrt_timer import layer_profiler, read_layers
from edgekit.runtimes.timer import Tensor, Timings, open_timer, warm_up
from hypothesis import given
from hypothesis import strategies as st

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import OutputError, RuntimeUnavailableError
from tests.conftest import READ_ONNX, batches

FEEDS = {"image": next(batches())["image"]}


def _timed(name: str, path: Path, **options: object) -> Timings:
    with open_timer(runtimes.get(name), path, SessionOptions(threads=1, **options)) as timer:
        for _ in range(2):
            timer.turn(FEEDS, 3)
        return timer.finish()


@pytest.mark.parametrize(("name", "samples"), [("onnxruntime", 3), ("openvino", 1)])
def test_each_turn_has_samples_of_a_time_and_one_for_each_operator(
    name: str, samples: int, onnx_file: Path
) -> None:
    found = _timed(name, onnx_file)
    assert found.runs == 6
    assert found.turns.tolist() == [0] * samples + [1] * samples
    assert found.whole_ns.shape == found.calls_ns.shape == (2 * samples,)
    assert found.layers_ns.shape == (2 * samples, len(found.executed))
    assert (found.layers_ns.sum(1) > 0).all()
    assert (found.calls_ns > 0).all()
    assert (found.layers_ns.sum(1) + found.calls_ns <= 1.2 * found.whole_ns).all()


def test_what_onnx_runtime_says_of_operators_and_between_them_is_an_inference(
    onnx_file: Path,
) -> None:
    found = _timed("onnxruntime", onnx_file)
    assert found.after_ns is not None
    assert found.after_ns.shape == found.layers_ns.shape
    assert (found.after_ns > 0).mean() > 0.9
    parts = found.layers_ns.sum(1) + found.after_ns.sum(1) + found.calls_ns
    np.testing.assert_allclose(parts, found.whole_ns)


@given(st.floats(0.5, 40.0), st.floats(10.0, 60.0), st.integers(0, 2**32 - 1))
def test_what_counters_of_whole_microseconds_grew_by_is_what_executions_took(
    mean_us: float, cold_us: float, seed: int
) -> None:
    """Operators, each cut down in each execution; the first executions are of cold caches."""
    random = np.random.default_rng(seed)
    warm, count, operators = 10, 16, 400
    us = random.lognormal(np.log(mean_us), 0.1, (warm + count, operators))
    us += cold_us * random.uniform(0.5, 1.5, operators) * np.exp(-np.arange(26) / 1.2)[:, None]
    sums = np.floor(us).cumsum(0)
    before, after = (np.floor(sums[runs - 1] / runs) for runs in (warm, warm + count))
    found = grown(before, after, warm, count)
    assert abs(found.mean() - us[warm:].mean()) < 0.5 + 0.02 * mean_us


def test_an_operator_whose_counter_stays_at_0_took_part_of_a_microsecond() -> None:
    assert grown(np.array([0.0, 3.0]), np.zeros(2), 10, 16).tolist() == [0.5, 0.5]


def test_warming_up_takes_two_calls_at_least_and_ends_with_the_time_or_after_twelve() -> None:
    calls: list[int] = []
    assert warm_up(lambda: calls.append(1)) == len(calls) == 12
    assert warm_up(lambda: time.sleep(0.05)) == 2


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


@pytest.mark.parametrize("left", [0, 1, 3000])
def test_a_profile_that_a_full_disk_cut_off_is_one_clear_line(
    left: int, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = OnnxRuntimeSession.end_trace

    def cut(session: OnnxRuntimeSession) -> Path:
        path = ended(session)
        path.write_bytes(path.read_bytes()[:left])
        return path

    monkeypatch.setattr(OnnxRuntimeSession, "end_trace", cut)
    with pytest.raises(OutputError, match="its profiling cannot be read"):
        _timed("onnxruntime", onnx_file)


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
