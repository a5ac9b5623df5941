from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import runtimes, zoo
from edgekit.workload import Workload
from edgekit.zoo._detection import mean_average_precision, survives, targets
from edgekit.zoo._scenes import Layout, Scenes, scenes
from tests.conftest import READ_ONNX
from tests.zoo.on_engines import exported

BOXES = torch.tensor([[[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 0, 10, 10.0]]])


def test_nms_keeps_the_best_of_boxes_that_overlap() -> None:
    kept = survives(BOXES[:, :3], torch.tensor([[0.8, 0.9, 0.1]]), torch.zeros(1, 3))
    assert kept.tolist() == [[False, True, True]]


def test_nms_keeps_boxes_of_other_digits() -> None:
    kept = survives(BOXES[:, :2], torch.tensor([[0.8, 0.9]]), torch.tensor([[1, 2]]))
    assert kept.all()


def test_nms_keeps_the_first_of_equals() -> None:
    kept = survives(BOXES[:, [0, 3]], torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2))
    assert kept.tolist() == [[True, False]]


@pytest.fixture(scope="module")
def made() -> Scenes:
    return scenes(40, Layout(side=64, most=4), seed=3, held_out=True)


def test_scenes_are_the_same_each_time(made: Scenes) -> None:
    again = scenes(40, Layout(side=64, most=4), seed=3, held_out=True)
    np.testing.assert_array_equal(made.images, again.images)
    np.testing.assert_array_equal(made.boxes, again.boxes)


def test_what_is_there_has_a_mean_average_precision_of_one(made: Scenes) -> None:
    scores = (made.digits >= 0).astype(np.float32)
    assert mean_average_precision(made.boxes, scores, made.digits, made) == pytest.approx(1)


def test_a_detection_twice_and_one_elsewhere_cost_precision(made: Scenes) -> None:
    boxes = np.concatenate([made.boxes, made.boxes, made.boxes + 40], 1)
    digits = np.concatenate([made.digits] * 3, 1)
    scores = np.repeat((0.9, 0.8, 0.95), 4) * (digits >= 0)
    found = mean_average_precision(boxes, scores, digits, made)
    assert 0.3 < found < 0.7


def test_missed_digits_cost_recall(made: Scenes) -> None:
    scores = (made.digits >= 0).astype(np.float32)
    scores[::2] = 0
    assert 0.3 < mean_average_precision(made.boxes, scores, made.digits, made) < 0.7


def test_cells_learn_the_box_that_they_are_in(made: Scenes) -> None:
    wanted = targets(made, cells=16, stride=4)
    for digits, boxes, scene in zip(wanted["digit"], wanted["box"], range(40), strict=True):
        for cell in np.flatnonzero(digits >= 0):
            y, x = (np.array(divmod(cell, 16)) + 0.5) * 4
            left, top, right, bottom = boxes[cell]
            assert left < x < right
            assert top < y < bottom
            assert digits[cell] in made.digits[scene]


@pytest.fixture(scope="module")
def workload() -> Workload:
    return zoo.load("fcos-digits")


@pytest.fixture(scope="module")
def graph(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(workload, tmp_path_factory.mktemp("fcos"))


@pytest.mark.parametrize("runtime", READ_ONNX)
def test_each_detection_is_pytorchs(
    workload: Workload, graph: Path, made: Scenes, runtime: str
) -> None:
    with torch.no_grad():
        boxes, scores, digits = (one.numpy() for one in workload.model(torch.tensor(made.images)))
    with runtimes.require(runtime).load(graph) as session:
        got = session.run({"image": made.images})
    np.testing.assert_array_equal(got["digits"], digits)
    np.testing.assert_allclose(got["scores"], scores, atol=1e-3)
    np.testing.assert_allclose(got["boxes"], boxes, atol=0.05)


def test_detections_come_first_and_none_is_there_twice(workload: Workload, made: Scenes) -> None:
    with torch.no_grad():
        boxes, scores, digits = workload.model(torch.from_numpy(made.images))
    there = scores > 0
    assert (there.int().diff(dim=1) <= 0).all()
    assert there.sum(1).min() >= 1
    assert not boxes[~there].any()
    assert not digits[~there].any()
    assert survives(boxes, scores, digits)[there].all()
