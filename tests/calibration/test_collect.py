from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import CalibrationTable, Calibrator, Estimator

from edgekit.errors import CalibrationError
from edgekit.spec import Feeds
from tests.conftest import SHAPE, batches


def _collect(model: ir.Model, tensors: list[str], feeds: Iterable[Feeds]) -> CalibrationTable:
    feeds = list(feeds)
    return Calibrator(lambda: feeds).table(model, tensors, Estimator(name="min-max"))


def test_ranges_of_inputs_and_outputs_are_those_of_the_data(graph: ir.Model) -> None:
    table = _collect(graph, ["image", "logits"], batches())
    together = np.concatenate([feeds["image"] for feeds in batches()])
    assert table.samples == 32
    assert table.ranges["image"].low == together.min()
    assert table.ranges["image"].high == together.max()
    assert table.ranges["logits"].low < table.ranges["logits"].high


def test_ragged_batches_are_welcome(graph: ir.Model) -> None:
    feeds = ({"image": np.ones((n, *SHAPE), np.float32)} for n in (1, 5, 3))
    assert _collect(graph, ["image"], feeds).samples == 9


def test_an_empty_set_is_refused(graph: ir.Model) -> None:
    with pytest.raises(CalibrationError, match="calibration set is empty"):
        _collect(graph, ["image"], iter([]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_the_batch(graph: ir.Model, bad: float) -> None:
    spoiled = np.zeros((2, *SHAPE), np.float32)
    spoiled[1, 0, 0, 0] = bad
    feeds = iter([{"image": np.zeros((2, *SHAPE), np.float32)}, {"image": spoiled}])
    with pytest.raises(CalibrationError, match=r"batch 1.*'image' has 1 NaN or infinite"):
        _collect(graph, ["image"], feeds)


def test_overflow_inside_the_model_names_the_tensor(graph: ir.Model) -> None:
    feeds = iter([{"image": np.full((1, *SHAPE), 3e38, np.float32)}])
    with pytest.raises(CalibrationError, match="NaN or infinity in tensor 'logits'"):
        _collect(graph, ["logits"], feeds)


@pytest.mark.parametrize(
    "feeds",
    [
        {"image": np.zeros((2, 3, 16), np.float32)},
        {"image": np.zeros((2, *SHAPE))},
        {"picture": np.zeros((2, *SHAPE), np.float32)},
    ],
)
def test_data_that_does_not_fit_is_one_line(graph: ir.Model, feeds: Feeds) -> None:
    with pytest.raises(CalibrationError, match="batch 0: does not fit the model"):
        _collect(graph, ["image"], iter([feeds]))


def test_large_finite_values_are_no_overflow(graph: ir.Model) -> None:
    # their float32 sum is infinite, or infinity minus infinity
    data = np.full((1, *SHAPE), 3e38, np.float32)
    data[0, 1] = -3e38
    table = _collect(graph, ["image"], [{"image": data}, {"image": np.abs(data)}])
    assert table.ranges["image"].high == pytest.approx(3e38)


def test_a_single_sample_gives_every_tensor_a_range(graph: ir.Model) -> None:
    one = [{"image": np.ones((1, *SHAPE), np.float32)}]
    tensors = [str(value.name) for node in graph.graph for value in node.outputs]
    table = _collect(graph, tensors, one)
    assert table.samples == 1
    assert table.ranges.keys() == set(tensors)


def test_an_empty_batch_is_passed_over(graph: ir.Model) -> None:
    feeds = [{"image": np.ones((count, *SHAPE), np.float32)} for count in (0, 1)]
    table = _collect(graph, ["logits"], feeds)
    assert table.samples == 1
    assert table.ranges["logits"].low < table.ranges["logits"].high
