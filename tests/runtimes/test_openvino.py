"""The form of an OpenVINO artifact that is compiled for batch 1 alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from edgekit.exporters import ExportOptions, get
from edgekit.runtimes import SessionOptions
from onnx import TensorProto, helper

from edgekit import runtimes
from edgekit.errors import RuntimeUnavailableError
from tests.conftest import SHAPE, batches

FEEDS = next(batches())


def exported(onnx_file: Path, folder: Path) -> Path:
    return get("openvino").export(onnx_file, folder / "model", ExportOptions(None, {}))[0]


def wish(path: Path) -> dict[str, list[int]] | None:
    model = ov.Core().read_model(path)
    if not model.has_rt_info(["edgekit", "usual_shapes"]):
        return None
    found: dict[str, list[int]] = json.loads(
        model.get_rt_info(["edgekit", "usual_shapes"]).astype(str)
    )
    return found


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each model that OpenVINO compiles is dynamic, in order."""
    seen: list[bool] = []
    original = ov.Core.compile_model

    def watched(self: ov.Core, model: ov.Model, *args: object) -> ov.CompiledModel:
        seen.append(model.is_dynamic())
        return original(self, model, *args)

    monkeypatch.setattr(ov.Core, "compile_model", watched)
    return seen


def test_batch_1_runs_a_static_form_and_another_batch_compiles_the_general_one_once(
    onnx_file: Path, tmp_path: Path, compiled: list[bool]
) -> None:
    path = exported(onnx_file, tmp_path)
    with runtimes.get("openvino").load(path, SessionOptions(threads=1)) as session:
        one = session.run({"image": FEEDS["image"][:1]})["logits"]
        assert compiled == [False]
        several = session.run(FEEDS)["logits"]
        session.run({"image": FEEDS["image"][:3]})
        assert compiled == [False, True]
    np.testing.assert_allclose(several[:1], one, rtol=1e-4, atol=1e-5)


def test_the_specs_stay_those_of_the_dynamic_model(onnx_file: Path, tmp_path: Path) -> None:
    with runtimes.get("openvino").load(exported(onnx_file, tmp_path)) as session:
        session.run({"image": FEEDS["image"][:1]})
        assert session.inputs[0].dynamic
        assert session.inputs[0].shape[1:] == SHAPE


def test_a_closed_session_of_both_forms_says_so(onnx_file: Path, tmp_path: Path) -> None:
    session = runtimes.get("openvino").load(exported(onnx_file, tmp_path))
    session.run(FEEDS)
    session.close()
    for feeds in (FEEDS, {"image": FEEDS["image"][:1]}):
        with pytest.raises(RuntimeError, match="closed"):
            session.run(feeds)


def graph(shape: list[int | str], target: list[int]) -> onnx.ModelProto:
    reshape = helper.make_node("Reshape", ["x", "target"], ["y"])
    values = helper.make_tensor("target", TensorProto.INT64, [len(target)], target)
    made = helper.make_graph(
        [reshape],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [values],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        (["batch", 4], [-1, 2, 2], {"x": [1, 4]}),
        (["batch", "sequence"], [-1, 1], {"x": [1, -1]}),
        (["rows", 4], [-1, 2, 2], None),
        ([3, 4], [3, 2, 2], None),
        (["batch", 4], [2, 2, 2], None),
    ],
    ids=["batch", "batch and sequence", "no batch", "static", "batch 2 written into the graph"],
)
def test_the_exporter_names_the_shapes_at_batch_1_where_the_graph_takes_them(
    tmp_path: Path, shape: list[int | str], target: list[int], expected: object
) -> None:
    path = tmp_path / "x.onnx"
    onnx.save(graph(shape, target), path)
    assert wish(exported(path, tmp_path)) == expected


def test_read_only_and_scalar_feeds_are_read_right(tmp_path: Path) -> None:
    add = helper.make_node("Add", ["x", "y"], ["z"])
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
    ]
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 2])
    path = tmp_path / "x.onnx"
    model = helper.make_graph([add], "g", inputs, [output])
    onnx.save(
        helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path
    )
    x = np.frombuffer(np.float32([[1, 2], [3, 4]]).tobytes(), np.float32).reshape(2, 2)
    assert not x.flags.writeable
    for feeds in (x, x[:1]):
        with runtimes.get("openvino").load(exported(path, tmp_path)) as session:
            got = session.run({"x": feeds, "y": np.array(10, np.float32)})["z"]
        np.testing.assert_array_equal(got, feeds + 10)


def test_calls_of_any_size_read_their_own_feeds_and_keep_their_own_results(tmp_path: Path) -> None:
    """Small inputs are copied into memory that is kept, large ones are read where they are."""
    path = two_outputs(tmp_path / "x.onnx")
    random = np.random.default_rng(0)
    calls = []
    with runtimes.get("openvino").load(exported(path, tmp_path)) as session:
        for rows in (2, 2, 9, 10_000, 1, 9, 10_000, 2, 1):
            names = ("first", "second")
            feeds = {name: random.normal(size=(rows, 3)).astype(np.float32) for name in names}
            if rows == 9:
                feeds = {name: np.asfortranarray(array) for name, array in feeds.items()}
            calls.append((feeds, session.run(feeds)))
    for feeds, results in calls:
        np.testing.assert_array_equal(results["sum"], feeds["first"] + feeds["second"])
        np.testing.assert_array_equal(results["product"], feeds["first"] * feeds["second"])


def two_outputs(path: Path) -> Path:
    """``sum`` and ``product`` of ``first`` and ``second``, none in alphabetical order."""
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("second", "first", "sum", "product")
    }
    nodes = [
        helper.make_node("Add", ["first", "second"], ["sum"]),
        helper.make_node("Mul", ["first", "second"], ["product"]),
    ]
    inputs, outputs = [values["second"], values["first"]], [values["sum"], values["product"]]
    model = helper.make_graph(nodes, "g", inputs, outputs)
    onnx.save(
        helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path
    )
    return path


def test_both_forms_come_from_the_cache_with_inputs_and_outputs_in_order(
    tmp_path: Path, compiled: list[bool]
) -> None:
    path = exported(two_outputs(tmp_path / "x.onnx"), tmp_path)
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    specs = []
    for _ in range(2):
        with runtimes.get("openvino").load(path, options) as session:
            specs.append((session.inputs, session.outputs))
            for batch in (1, 2):
                first, second = np.full((2, batch, 3), [[[2]], [[5]]], np.float32)
                got = session.run({"first": first, "second": second})
                assert list(got) == ["sum", "product"]
                np.testing.assert_array_equal(got["sum"], first + second)
                np.testing.assert_array_equal(got["product"], first * second)
    assert compiled == [False, True], "the second session compiles nothing"
    assert specs[0] == specs[1]


@pytest.mark.parametrize("left", [0, 20, 5000, -1], ids=lambda left: f"bytes {left}")
def test_a_truncated_form_is_compiled_again(
    tmp_path: Path, compiled: list[bool], left: int
) -> None:
    path = exported(two_outputs(tmp_path / "x.onnx"), tmp_path)
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    feeds = {name: np.ones((1, 3), np.float32) for name in ("first", "second")}
    for _ in range(2):
        with runtimes.get("openvino").load(path, options) as session:
            np.testing.assert_array_equal(session.run(feeds)["sum"], np.full((1, 3), 2))
        (kept,) = (tmp_path / "cache").iterdir()
        kept.write_bytes(kept.read_bytes()[:left])
    assert compiled == [False, False]


def test_a_kept_form_is_not_taken_for_one_with_other_weights(
    onnx_file: Path, tmp_path: Path
) -> None:
    path = exported(onnx_file, tmp_path)
    options = SessionOptions(threads=1, cache=tmp_path / "cache")
    with runtimes.get("openvino").load(path, options) as session:
        before = session.run(FEEDS)["logits"]
    model = onnx.load(onnx_file)
    (weight,) = [one for one in model.graph.initializer if one.name == "head.weight"]
    doubled = 2 * onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(doubled, weight.name))
    onnx.save(model, tmp_path / "doubled.onnx")
    (tmp_path / "other").mkdir()
    other = exported(tmp_path / "doubled.onnx", tmp_path / "other")
    shutil.copy(other.with_suffix(".bin"), path.with_suffix(".bin"))
    with runtimes.get("openvino").load(path, options) as session:
        assert np.abs(session.run(FEEDS)["logits"] - before).max() > 0.01


def test_results_do_not_depend_on_which_thread_computes(onnx_file: Path, tmp_path: Path) -> None:
    with runtimes.get("openvino").load(exported(onnx_file, tmp_path)) as session:
        wanted = session.run(FEEDS)["logits"]
        for _ in range(20):  # both ways are tried, then the faster one stays
            np.testing.assert_array_equal(session.run(FEEDS)["logits"], wanted)
            assert session.run({"image": FEEDS["image"][:1]})["logits"].shape == (1, 5)


@pytest.mark.parametrize("device", ["CPU", "AUTO", "AUTO:CPU", "HETERO:CPU", "MULTI:CPU(2)"])
def test_devices_are_named_as_openvino_does(onnx_file: Path, tmp_path: Path, device: str) -> None:
    path = exported(onnx_file, tmp_path)
    options = SessionOptions(threads=1, device=device, cache=tmp_path / "cache")
    with runtimes.get("openvino").load(path) as session:
        wanted = session.run(FEEDS)["logits"]
    for _ in range(2):
        with runtimes.get("openvino").load(path, options) as session:
            got = session.run(FEEDS)["logits"]
        np.testing.assert_allclose(got, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("device", ["NPU", "GPU.7", "HETERO:TPU,CPU", "cpu"])
def test_a_device_that_is_not_here_is_told_with_those_that_are(
    onnx_file: Path, device: str
) -> None:
    options = SessionOptions(device=device)
    with pytest.raises(RuntimeUnavailableError, match=r"finds no device .*; it finds CPU"):
        runtimes.get("openvino").load(onnx_file, options)
