from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgekit.errors import CalibrationError, WorkloadError
from edgekit.workload import Metric, Workload


def test_the_batch_is_dynamic_by_default(workload: Workload) -> None:
    assert workload.dynamic == {"image": {0: "batch"}}
    workload.dynamic_shapes = {}
    assert workload.dynamic == {"image": {}}


def test_example_inputs_and_a_whole_metric_are_needed(workload: Workload) -> None:
    with pytest.raises(WorkloadError, match="example_inputs is empty"):
        Workload(name="x", model=workload.model, example_inputs={})
    with pytest.raises(WorkloadError, match="given together"):
        Workload(
            name="x",
            model=workload.model,
            example_inputs=workload.example_inputs,
            metric=Metric("accuracy"),
        )


def test_drop_follows_the_direction_of_the_metric() -> None:
    assert Metric("accuracy").drop(0.9, 0.8) == pytest.approx(0.1)
    assert Metric("loss", higher_is_better=False).drop(0.9, 0.8) == pytest.approx(-0.1)


def test_a_loss_of_just_the_budget_is_within_it() -> None:
    assert Metric("accuracy").within(1.0, 0.99, 0.01)  # 1.0 - 0.99 > 0.01 in floating point
    assert not Metric("accuracy").within(1.0, 0.9899, 0.01)


def test_feeds_are_numpy_also_when_the_user_gives_tensors(workload: Workload) -> None:
    workload.calibration = lambda: [{"image": torch.ones(2, 3)}]
    (batch,) = workload.feeds()
    assert isinstance(batch["image"], np.ndarray)


def test_failures_of_user_functions_are_one_line(workload: Workload) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise ValueError("disk gone")

    workload.calibration = broken
    with pytest.raises(WorkloadError, match="calibration: raised ValueError: disk gone"):
        list(workload.feeds())
    workload.evaluate, workload.metric = broken, Metric("accuracy")
    with pytest.raises(WorkloadError, match="evaluate: raised ValueError: disk gone"):
        workload.score(lambda _: {})


@pytest.mark.parametrize("figures", [{}, {"other": 1.0}, {"accuracy": float("nan")}])
def test_a_metric_that_is_missing_or_not_finite_is_refused(
    workload: Workload, figures: dict[str, float]
) -> None:
    workload.evaluate, workload.metric = lambda _: figures, Metric("accuracy")
    with pytest.raises(WorkloadError, match="finite 'accuracy'"):
        workload.score(lambda _: {})


def test_no_calibration_data_tells_how_to_give_some(workload: Workload) -> None:
    workload.calibration = None
    with pytest.raises(CalibrationError, match="--calib"):
        list(workload.feeds())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"state": {"imgae": "output"}}, "workload 'w', state: there is no 'imgae', did you mean"),
        ({"state": {"image": "next"}}, "workload 'w', state: there is no 'next'. There are output"),
        ({"dynamic_shapes": {"img": {0: "n"}}}, "workload 'w', dynamic_shapes: there is no 'img'"),
        (
            {"dynamic_shapes": {}, "other_inputs": {"image": torch.zeros(3, 3, 16, 16)}},
            "has both dynamic_shapes and other_inputs",
        ),
        ({"other_inputs": {}}, "other_inputs: have nothing, example_inputs have image"),
    ],
)
def test_names_that_are_not_there_are_refused(
    network: torch.nn.Module, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(WorkloadError, match=told):
        Workload(
            name="w",
            model=network,
            example_inputs={"image": torch.zeros(2, 3, 16, 16)},
            **settings,  # type: ignore[arg-type]
        )


def test_a_second_example_says_what_is_dynamic(network: torch.nn.Module) -> None:
    one, other = ({"image": torch.zeros(2, 3, size, size)} for size in (16, 20))
    made = Workload(name="w", model=network, example_inputs=one, other_inputs=other)
    assert made.dynamic == {"image": {2: "image_2", 3: "image_2"}}
    assert dataclasses.replace(made, name="copy").dynamic == made.dynamic


def test_a_dimension_of_state_alone_grows() -> None:
    made = Workload(
        name="w",
        model=torch.nn.Bilinear(2, 2, 2),
        example_inputs={"x": torch.zeros(2, 2), "past": torch.zeros(2, 2)},
        dynamic_shapes={"x": {0: "batch"}, "past": {0: "batch", 1: "length"}},
        state={"past": "output"},
    )
    assert made.growing == {"length"}
