from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import CalibrationTable, Calibrator, Estimator

from edgekit.errors import CalibrationError
from edgekit.spec import Feeds
from tests.compress.graphs import model_of, node
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


def _settled(graph: ir.Model, feeds: Iterable[Feeds], settle: float) -> CalibrationTable:
    feeds = list(feeds)
    return Calibrator(lambda: feeds).table(graph, ["image"], Estimator(name="min-max"), settle)


def test_calibration_stops_when_the_ranges_have_settled(graph: ir.Model) -> None:
    same = list(batches(1)) * 20
    assert _settled(graph, same, 0.0).samples == 160
    assert _settled(graph, same, 0.02).samples == 64  # two looks, 32 samples apart


def test_calibration_goes_on_while_the_ranges_move(graph: ir.Model) -> None:
    growing = [
        {"image": feeds["image"] * np.float32(1.1**i)} for i, feeds in enumerate(batches(20))
    ]
    assert _settled(graph, growing, 0.02).samples == 160


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_a_few_rows_at_a_time_see_what_a_whole_batch_sees(graph: ir.Model, count: int) -> None:
    feeds = [{"image": batch["image"][:count]} for batch in batches()]
    tensors = [str(value.name) for node in graph.graph for value in node.outputs]
    whole, divided = (
        Calibrator(lambda: feeds, divisible=divisible).table(
            graph, [*tensors, "image"], Estimator(name="min-max")
        )
        for divisible in (False, True)
    )
    assert divided.samples == whole.samples == 4 * count
    for name, found in whole.ranges.items():
        assert divided.ranges[name].low == pytest.approx(found.low, rel=1e-5, abs=1e-6)
        assert divided.ranges[name].high == pytest.approx(found.high, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("divisible", [True, False])
@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"image": np.zeros((2, 3, 16), np.float32)},
        {"image": np.float32(1)},
        {"image": np.zeros((2, *SHAPE), np.float32), "extra": np.zeros((4, 1), np.float32)},
    ],
    ids=["nothing", "rank", "scalar", "unknown"],
)
def test_bad_feeds_are_one_line_however_they_are_run(
    graph: ir.Model, feeds: Feeds, *, divisible: bool
) -> None:
    feeds = {name: np.asarray(values) for name, values in feeds.items()}
    calibrator = Calibrator(lambda: [feeds], divisible=divisible)
    with pytest.raises(CalibrationError, match="batch 0") as caught:
        calibrator.table(graph, ["logits"], Estimator(name="min-max"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("divisible", [True, False])
def test_inputs_of_different_lengths_are_one_line(*, divisible: bool) -> None:
    model = model_of([node("Add", ["a", "b"], ["y"])], {}, {"a": ["n", 2], "b": ["n", 2]})
    feeds = {"a": np.zeros((4, 2), np.float32), "b": np.zeros((3, 2), np.float32)}
    calibrator = Calibrator(lambda: [feeds], divisible=divisible)
    with pytest.raises(CalibrationError, match="batch 0") as caught:
        calibrator.table(model, ["y"], Estimator(name="min-max"))
    assert "\n" not in str(caught.value)


def test_channel_means_cost_no_pass_of_their_own_beside_a_table(graph: ir.Model) -> None:
    reads = []

    def feeds() -> Iterable[Feeds]:
        reads.append(1)
        return batches()

    axes = {"image": 1, "logits": -1}
    calibrator = Calibrator(feeds)
    table = calibrator.table(graph, ["logits"], Estimator(name="min-max"), axes=axes)
    beside = calibrator.means(graph, axes, table)
    assert len(reads) == 1
    together = np.concatenate([one["image"] for one in batches()])
    np.testing.assert_allclose(beside["image"], together.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    # Another process finds the table in the cache, and has to come to the same correction.
    later = Calibrator(batches).means(graph, axes, table)
    for name in axes:
        np.testing.assert_array_equal(later[name], beside[name])


def test_means_are_over_the_samples_of_the_table(graph: ir.Model) -> None:
    calibrator = Calibrator(batches, samples=8)
    table = calibrator.table(graph, ["image"], Estimator(name="min-max"))
    means = Calibrator(batches).means(graph, {"image": 1}, table)
    first = next(batches())["image"]
    np.testing.assert_allclose(means["image"], first.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)
