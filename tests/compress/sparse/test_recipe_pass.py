"""The passes as steps of a recipe: on real models, and every way to ask for the impossible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgekit.exporters.sparse_weights import has_two_of_four
from onnx import numpy_helper
from torch import nn

from edgekit.compress.base import Measured, ModuleContext, Trained, pass_types
from edgekit.compress.modules import check_module
from edgekit.compress.recipe import Recipe, load_recipe
from edgekit.compress.sparse.recipe_pass import Sparse, SparseTraining
from edgekit.compress.sparse.zeros import zero_share
from edgekit.errors import CalibrationError, CompressError, RecipeError, WorkloadError
from edgekit.pipeline import Timing, make_bundle
from edgekit.reference import reference_predict
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits, resnet8_mnist


def recipe(**keys: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "passes": [keys]})


def apply(workload: Workload, seed: int = 0, **keys: Any) -> Trained:
    (step,) = recipe(**{"type": "sparse", **keys}).module_passes
    trained = step.apply(workload, ModuleContext(seed=seed))
    check_module(workload, trained.model, step.type)
    return trained


def score(workload: Workload, trained: Trained) -> float:
    with reference_predict(replace(workload, model=trained.model)) as predict:
        return workload.score(predict)


def layer_zeros(trained: Trained, name: str) -> float:
    weight = trained.model.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    return zero_share(weight.detach())


def test_both_passes_are_registered() -> None:
    assert pass_types()["sparse"] is Sparse
    assert pass_types()["sparse-training"] is SparseTraining


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_half_of_the_weights_go_at_once(method: str) -> None:
    workload = mlp_digits.workload()
    trained = apply(workload, ratio=0.5, method=method)
    assert [layer_zeros(trained, name) for name in "024"] == [0.5, 0.5, 0.0]
    assert score(workload, trained) > 0.9


def test_two_of_four_with_sparsegpt_keeps_a_cnn_that_magnitude_breaks() -> None:
    workload = resnet8_mnist.workload()
    accuracy = {
        method: score(workload, apply(workload, pattern="2:4", method=method, samples=128))
        for method in ("magnitude", "sparsegpt")
    }
    assert accuracy["sparsegpt"] > 0.95
    assert accuracy["magnitude"] < 0.5


def test_global_scope_spreads_the_ratio_unevenly() -> None:
    trained = apply(mlp_digits.workload(), ratio=0.5, scope="global")
    shares = [layer_zeros(trained, name) for name in "02"]
    assert shares[0] != shares[1]
    assert np.average(shares, weights=[128 * 64, 64 * 128]) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["once", "cubic"])
def test_fine_tuning_leaves_the_ratio_exact(schedule: str) -> None:
    workload = mlp_digits.workload()
    trained = apply(workload, ratio=0.9, schedule=schedule, finetune={"epochs": 4})
    assert layer_zeros(trained, "0") == pytest.approx(0.9, abs=1e-3)
    assert score(workload, trained) > 0.85


def test_zeros_too_few_for_the_loop_to_notice_are_kept_as_well() -> None:
    trained = apply(mlp_digits.workload(), ratio=0.05, finetune={"epochs": 1})
    assert layer_zeros(trained, "0") == pytest.approx(0.05, abs=1e-3)


def test_movement_goes_by_training() -> None:
    workload = mlp_digits.workload()
    keys = {"ratio": 0.6, "schedule": "cubic", "finetune": {"epochs": 5}}
    moved = apply(workload, method="movement", **keys)
    plain = apply(workload, method="magnitude", **keys)
    assert layer_zeros(moved, "0") == pytest.approx(0.6, abs=1e-3)
    assert score(workload, moved) > 0.9
    masks = [one.model.get_submodule("0").weight != 0 for one in (moved, plain)]  # type: ignore[operator]
    assert not torch.equal(*masks)


@pytest.mark.parametrize(
    "keys",
    [
        {"ratio": 0.5, "method": "sparsegpt"},
        {"ratio": 0.8, "method": "movement", "schedule": "cubic", "finetune": {"epochs": 1}},
        {"type": "sparse-training", "ratio": 0.8, "epochs": 1},
        {"type": "sparse-training", "ratio": 0.8, "epochs": 1, "method": "set"},
    ],
    ids=lambda keys: f"{keys.get('method', 'rigl')}",
)
def test_it_is_deterministic_and_leaves_the_workload_alone(keys: dict[str, Any]) -> None:
    workload = mlp_digits.workload()
    assert isinstance(workload.model, nn.Module)
    before = {name: value.clone() for name, value in workload.model.state_dict().items()}
    states = [apply(workload, seed=7, **keys).model.state_dict() for _ in range(2)]
    for name, value in before.items():
        assert torch.equal(states[0][name], states[1][name])
        assert torch.equal(workload.model.state_dict()[name], value)


@pytest.mark.parametrize("allocation", ["erk", "uniform"])
def test_sparse_training_from_scratch_learns_within_its_budget(allocation: str) -> None:
    workload = mlp_digits.workload()
    trained = apply(
        workload, type="sparse-training", ratio=0.8, epochs=6, rate=5e-3, allocation=allocation
    )
    weights = [trained.model.get_submodule(name).weight for name in "024"]
    alive = sum(int((weight != 0).sum()) for weight in weights)  # type: ignore[union-attr]
    assert alive <= 0.2 * (64 * 128 * 2 + 640) + 3
    assert score(workload, trained) > 0.8
    difference = layer_zeros(trained, "0") - layer_zeros(trained, "4")
    assert (difference > 0.1) == (allocation == "erk")


def test_uniform_training_leaves_the_first_convolution_dense() -> None:
    workload = resnet8_mnist.workload()
    assert workload.training is not None
    one = [next(iter(workload.training.batches(0)))]
    workload = replace(workload, training=replace(workload.training, batches=lambda _: one))
    keys = {"type": "sparse-training", "ratio": 0.5, "epochs": 1, "allocation": "uniform"}
    changes = apply(workload, **keys).report.changes
    assert [change.where for change in changes if not change.kept] == ["0"]


def test_the_report_has_every_layer_the_bytes_and_no_promise_of_time() -> None:
    report = apply(resnet8_mnist.workload(), pattern="2:4", exclude=[]).report
    assert (report.changed, report.total) == (9, 10)
    assert report.changes[0].where == "3.body.0"
    assert report.changes[0].before == "0.0% zeros of 2304 weights"
    assert report.changes[0].after == "50.0% zeros of 2304 weights"
    assert (report.changes[-1].where, report.changes[-1].kept) == ("0", False)
    assert "multiple of 4" in report.changes[-1].why
    text = "; ".join(report.details)
    assert "50.0% of" in text
    assert "zlib packs" in text
    assert "only size on disk is won" in text
    packed, before = (float(text.split(word)[1].split()[0]) for word in ("into ", "float32, "))
    assert 0.5 < packed / before < 0.7


class Clock:
    """Says what it is told to say of the models that it is given."""

    name = "engine int8"

    def __init__(self, low: float) -> None:
        self._low = low
        self.asked: list[tuple[Workload, Workload]] = []

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        self.asked.append((baseline, candidate))
        return Measured(self._low + 0.05, self._low)

    def medians(self, workloads: Sequence[Workload]) -> list[float]:
        return [1.0] * len(workloads)


@pytest.mark.parametrize(("low", "only_size"), [(0.97, True), (1.2, False)])
def test_with_a_clock_the_measured_ratio_is_told(low: float, only_size: bool) -> None:
    workload, clock = mlp_digits.workload(), Clock(low)
    step = Sparse(type="sparse", ratio=0.5)
    trained = step.apply(workload, ModuleContext(clock=clock))
    assert [(a is workload, b.model is trained.model) for a, b in clock.asked] == [(True, True)]
    (told,) = [line for line in trained.report.details if "engine int8" in line]
    assert f"{low + 0.05:.2f} times as fast on engine int8" in told
    assert ("only size on disk is won" in told) == only_size


def test_zeros_in_a_two_of_four_model_survive_int8(workload: Workload, tmp_path: Path) -> None:
    passes = [{"type": "sparse", "pattern": "2:4", "exclude": []}, {"type": "int8-ptq"}]
    make_bundle(
        workload,
        tmp_path / "b.edge",
        recipe=Recipe.model_validate({"name": "r", "passes": passes}),
        targets=parse_targets(["onnxruntime"], None),
        timing=Timing(rounds=(5, 5), seconds=1),
    )
    file = tmp_path / "b.edge" / "onnxruntime-sparse-int8.onnx"
    assert has_two_of_four(ir.load(file))
    (weight,) = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load(file).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and list(tensor.dims) == [8, 8, 3, 3]
    ]
    groups = np.moveaxis(weight, 1, -1).reshape(-1, 4)
    assert int((groups != 0).sum(1).max()) == 2


def test_a_recipe_may_write_the_pattern_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\npasses:\n  - {type: sparse, pattern: 2:4}\n  - {type: int8-ptq}\n")
    (step,) = load_recipe(str(path)).module_passes
    assert isinstance(step, Sparse)
    assert step.pattern == "2:4"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ratio": 1.0}, "ratio: Input should be less than 1"),
        ({"pattern": "2-4"}, "pattern: Input should be '2:4' or '4:8'"),
        ({}, "either ratio or pattern"),
        ({"ratio": 0.5, "pattern": "2:4"}, "either ratio or pattern"),
        ({"ratio": 0.5, "method": "movement"}, "movement is measured while"),
        ({"ratio": 0.5, "schedule": "cubic"}, "of which there is none"),
        ({"ratio": 0.5, "schedule": "cubic", "finetune": {"epochs": 0}}, "of which there is none"),
        (
            {"ratio": 0.5, "schedule": "cubic", "finetune": {}, "method": "sparsegpt"},
            "has no schedule",
        ),
        ({"pattern": "2:4", "scope": "global"}, "scope: global goes with ratio"),
        ({"ratio": 0.5, "scope": "global", "method": "wanda"}, "scope: global goes with ratio"),
        ({"ratio": 0.5, "exlude": []}, "did you mean 'exclude'"),
        ({"type": "sparse-training", "ratio": 1.0, "epochs": 1}, "ratio: Input should be less"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(**{"type": "sparse", **keys})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_without_calibration_data_there_is_nothing_to_go_by(method: str) -> None:
    workload = replace(mlp_digits.workload(), calibration=None)
    with pytest.raises(CalibrationError, match="there is no calibration data"):
        apply(workload, ratio=0.5, method=method)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_nan_in_calibration_data_is_found(method: str) -> None:
    def data() -> Iterator[Feeds]:
        yield {"pixels": np.full((2, 64), np.nan, np.float32)}

    with pytest.raises(CalibrationError, match="NaN"):
        apply(replace(mlp_digits.workload(), calibration=data), ratio=0.5, method=method)


@pytest.mark.parametrize(
    "keys",
    [
        {"ratio": 0.5, "method": "movement", "schedule": "cubic", "finetune": {"epochs": 1}},
        {"type": "sparse-training", "ratio": 0.5, "epochs": 1},
    ],
    ids=["movement", "rigl"],
)
def test_a_function_that_trains_is_not_enough_where_masks_move(keys: dict[str, Any]) -> None:
    workload = replace(mlp_digits.workload(), training=None, finetune=lambda *_: None)
    with pytest.raises(WorkloadError, match="has no training, which"):
        apply(workload, **keys)


def test_a_layer_that_loses_everything_is_an_error() -> None:
    workload = mlp_digits.workload()
    assert isinstance(workload.model, nn.Sequential)
    with torch.no_grad():
        workload.model[0].weight *= 1e-6
    with pytest.raises(CompressError, match=r"module '0': would have no weight left"):
        apply(workload, ratio=0.5, scope="global")


def test_a_layer_that_no_data_reaches_stays_dense_where_data_decides() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.used(pixels)

    workload = replace(mlp_digits.workload(), model=Idle().eval())
    report = apply(workload, ratio=0.5, method="wanda", exclude=[]).report
    assert [(change.where, change.kept) for change in report.changes] == [
        ("used", True),
        ("idle", False),
    ]
    assert "never called" in report.changes[1].why


def test_an_onnx_file_cannot_become_sparse(onnx_file: Path, workload: Workload) -> None:
    with pytest.raises(WorkloadError, match="ONNX file"):
        apply(replace(workload, model=onnx_file), ratio=0.5)


def test_modules_that_cannot_be_initialized_anew_are_named() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(10))
            self.layer = nn.Linear(64, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layer(pixels) * self.scale

    model = nn.Sequential(Scaled()).eval()
    workload = replace(mlp_digits.workload(), model=model)
    report = apply(workload, type="sparse-training", ratio=0.5, epochs=1).report
    assert "no reset_parameters: 0" in report.details[0]
