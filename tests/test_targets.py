from __future__ import annotations

import pytest
from edgekit.exporters import ShapeRange

from edgekit.errors import ExportError, RuntimeUnavailableError, SpecError
from edgekit.spec import TensorSpec
from edgekit.targets import EngineSettings, Target, engine_settings, parse_targets

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
