from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from edgekit.exporters import ShapeRange
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError, RuntimeUnavailableError, SpecError
from edgekit.modelref import resolve
from edgekit.pipeline import make_bundle
from edgekit.spec import TensorSpec
from edgekit.targets import EngineSettings, Target, engine_settings, parse_targets
from edgekit.workload import Workload

INPUTS = (
    TensorSpec("tokens", "int64", ("batch", "sequence")),
    TensorSpec("fixed", "float32", (3, 4)),
)
EXAMPLE = {"tokens": (2, 16), "fixed": (3, 4)}


def test_several_gpus_are_several_targets_each_once() -> None:
    found = parse_targets(["tensorrt-rtx"], "sm89, SM120,sm_89")
    assert found == (Target("tensorrt-rtx", "sm89"), Target("tensorrt-rtx", "sm120"))


def test_a_gpu_adds_tensorrt_rtx_to_the_usual_runtimes() -> None:
    found = parse_targets([], "sm89,sm120")
    assert [target.runtime for target in found] == [
        "onnxruntime",
        "openvino",
        "tensorrt-rtx",
        "tensorrt-rtx",
    ]
    assert parse_targets(["tensorrt"], "sm90") == (Target("tensorrt", "sm90"),)


def test_a_gpu_that_only_the_other_builder_knows_says_so() -> None:
    with pytest.raises(ExportError, match="does not build for sm90"):
        parse_targets(["tensorrt-rtx"], "sm90")
    with pytest.raises(ExportError, match="did you mean 'sm90'"):
        parse_targets(["tensorrt"], "sm98")


def test_an_engine_without_a_gpu_is_refused() -> None:
    for gpu in (None, "", ","):
        with pytest.raises(RuntimeUnavailableError, match="--gpu sm89"):
            parse_targets(["tensorrt"], gpu)


def test_dimensions_go_from_one_to_eight_times_the_example() -> None:
    assert EngineSettings().shapes(INPUTS, EXAMPLE) == {
        "tokens": ShapeRange((1, 1), (1, 16), (8, 128))
    }


def test_a_range_wins_over_the_example() -> None:
    settings = engine_settings(["sequence=8:64:256"], 512, refit=True)
    assert settings.shapes(INPUTS, EXAMPLE)["tokens"] == ShapeRange((1, 8), (1, 64), (8, 256))
    assert (settings.workspace, settings.refit) == (512 * 2**20, True)


@pytest.mark.parametrize(
    "text", ["batch", "batch=1", "batch=1:2", "=1:2:3", "batch=1:x:3", "b=1:2:3:4"]
)
def test_a_range_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="batch=1:4:16, say"):
        engine_settings([text], None, refit=False)


@pytest.mark.parametrize("text", ["batch=0:1:2", "batch=4:2:8", "batch=1:4:2"])
def test_sizes_that_do_not_increase_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="do not increase from 1"):
        engine_settings([text], None, refit=False)


@pytest.fixture(scope="module")
def network() -> Workload:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))
    return Workload(
        name="small",
        model=module,
        example_inputs={"input": torch.randn(2, 8)},
        output_names=["y"],
    )


def _exported(workload: Workload, out: Path, *opsets: str) -> Bundle:
    targets = parse_targets([], None, opsets)
    return make_bundle(workload, out, recipe=load_recipe("fp32"), targets=targets, timing=None)


def _opset(path: Path) -> int:
    return int(onnx.load(path).opset_import[0].version)


def test_every_runtime_has_the_operator_set_that_was_asked_for_it(
    network: Workload, tmp_path: Path
) -> None:
    made = _exported(network, tmp_path / "m.edge", "19", "onnxruntime=21")
    opsets = {artifact.id: artifact.opset for artifact in made.manifest.artifacts}
    assert opsets == {"onnxruntime-fp32": 21, "openvino-fp32": 19}
    assert _opset(made.path / "model.onnx") == 19
    assert _opset(made.path / "onnxruntime-fp32.onnx") == 21
    assert all(record.passed and record.ran for record in made.manifest.verification)


def _file(folder: Path, opset: int) -> Path:
    helper = onnx.helper
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", 4])],
        [helper.make_tensor_value_info("y", kind, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), folder / "given.onnx")
    return folder / "given.onnx"


def test_an_onnx_file_keeps_its_operator_set_or_is_brought_to_a_newer_one(tmp_path: Path) -> None:
    workload = resolve(str(_file(tmp_path, 15)))
    for asked, got in (((), 15), (("18",), 18)):
        made = _exported(workload, tmp_path / "m.edge", *asked)
        assert {artifact.opset for artifact in made.manifest.artifacts} == {got}
        (path,) = made.path.rglob("*.onnx")
        assert _opset(path) == got


def test_an_onnx_file_is_not_taken_back_to_an_older_operator_set(tmp_path: Path) -> None:
    workload = resolve(str(_file(tmp_path, 15)))
    with pytest.raises(ExportError, match=r"written in operator set 15, .* taken back to 14"):
        _exported(workload, tmp_path / "m.edge", "14")
    assert not (tmp_path / "m.edge").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["22"], "operator set 22 is not one that runtime onnxruntime reads. Give 13 to 21"),
        (["12"], "operator set 12 is not one .* Give 13 to 21"),
        (["tensorrt-rtx=21"], "operator set 21 .* tensorrt-rtx reads. Give 13 to 20"),
        (["newest"], "'newest' is not a number"),
        (["-1"], "'-1' is not a number"),
        (["openvino="], "'' is not a number"),
        (["openvin=20"], "nothing is built for 'openvin', did you mean 'openvino'"),
        (["19", "20"], "an operator set for every runtime was given before"),
        (["openvino=19", "openvino=19"], "an operator set for openvino was given before"),
    ],
)
def test_operator_sets_that_make_no_sense_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        parse_targets([], "sm89", given)


def test_a_runtime_s_own_operator_set_goes_before_that_for_all() -> None:
    targets = parse_targets([], None, ["openvino=19", "20"])
    assert {target.runtime: target.opset for target in targets} == {
        "onnxruntime": 20,
        "openvino": 19,
    }
