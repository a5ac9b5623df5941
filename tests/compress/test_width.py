"""The width that a target likes is found from times alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import pytest
import torch

from edgekit.compress.base import Measured
from edgekit.compress.width import liked_multiple, measure_widths
from edgekit.workload import Workload


class Padding:
    """An engine that computes as many channels as fill its vectors."""

    name = "padding"

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self._seconds = seconds

    def seconds(self, workloads: Sequence[Workload]) -> list[float]:
        widths = [next(iter(w.model.parameters())).shape[0] for w in workloads]  # type: ignore[union-attr]
        return [self._seconds(width) for width in widths]

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        before, after = self.seconds([baseline, candidate])
        return Measured(before / after, before / after)


def padded(lanes: int) -> Padding:
    return Padding(lambda width: float((ceil(width / lanes) * lanes) ** 2))


@pytest.mark.parametrize("convolution", [True, False])
@pytest.mark.parametrize("lanes", [8, 16, 32])
def test_an_engine_that_pads_likes_what_it_pads_to(lanes: int, convolution: bool) -> None:
    assert liked_multiple(padded(lanes), convolution=convolution)[0] == lanes


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_an_engine_without_steps_likes_any_multiple_of_4(power: float) -> None:
    clock = Padding(lambda width: float(width**power) + 1.0)
    assert liked_multiple(clock, convolution=True)[0] == 4


def test_one_disturbed_measurement_decides_nothing() -> None:
    clock = Padding(lambda width: float(width) * (3.0 if width == 68 else 1.0))
    assert liked_multiple(clock, convolution=True)[0] == 4


def test_the_measurements_are_told() -> None:
    widths = measure_widths(padded(16), convolution=True)
    assert {one.width: one.excess for one in widths if one.width in {64, 96, 128}} == {
        64: 1.0, 96: 1.0, 128: 1.0,
    }  # fmt: skip
    assert max(widths, key=lambda one: one.excess).width == 68


@pytest.mark.parametrize(("convolution", "shape"), [(True, (1, 68, 14, 14)), (False, (1, 64, 68))])
def test_what_is_timed_runs(convolution: bool, shape: tuple[int, ...]) -> None:
    seen: list[Workload] = []

    class Watching(Padding):
        def seconds(self, workloads: Sequence[Workload]) -> list[float]:
            seen.extend(workloads)
            return super().seconds(workloads)

    measure_widths(Watching(float), convolution=convolution)
    one = next(w for w in seen if w.name == "width-68")
    assert not isinstance(one.model, (str, bytes))
    with torch.no_grad():
        assert tuple(one.model(one.example_inputs["x"]).shape) == shape  # type: ignore[operator]
    assert next(one.feeds())["x"].shape == shape
