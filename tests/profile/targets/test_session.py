"""Sessions as a target: on a clock that only they move, and on a real engine."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from edgekit.runtimes import Session

from edgekit import runtimes
from edgekit.errors import EdgekitError
from edgekit.profile.targets.base import GiveUp, Until
from edgekit.profile.targets.session import SessionTarget
from edgekit.spec import Feeds, Outputs, TensorSpec
from tests.conftest import SHAPE
from tests.profile.scenarios.simulated import ManualClock

MS = 10**6


class Known(Session):
    """Moves the clock by a known time for each inference, whatever its size."""

    def __init__(self, clock: ManualClock, *took: int) -> None:
        self.inputs = (TensorSpec("x", "float32", ("batch",)),)
        self.outputs = ()
        self.sizes: list[int] = []
        self._clock, self._took = clock, took

    def _run(self, feeds: Feeds) -> Outputs:
        self._clock.time += self._took[len(self.sizes) % len(self._took)]
        self.sizes.append(len(feeds["x"]))
        return {}

    def _release(self) -> None:
        pass


def _feeds(count: int) -> Feeds:
    return {"x": np.zeros(count, np.float32)}


def _known(*took: int, batch: int = 1, oversleep: int = 0) -> tuple[Known, SessionTarget]:
    clock = ManualClock(oversleep)
    session = Known(clock, *took)
    return session, SessionTarget([session], _feeds, batch=batch, clock=clock)


def test_a_closed_loop_sends_when_the_last_is_answered() -> None:
    _, target = _known(2 * MS)
    run = target.closed_loop(Until(seconds=0.01, queries=3))
    assert run.due.tolist() == [0, 2 * MS, 4 * MS, 6 * MS, 8 * MS]
    assert run.latencies.tolist() == [2 * MS] * 5
    assert run.seconds == 0.01


class Stalls(ManualClock):
    """Two milliseconds go by after it was first read: others had the processor."""

    def __init__(self) -> None:
        super().__init__()
        self._first = self.time

    def now(self) -> int:
        read = self.time
        if read == self._first:
            self.time += 2 * MS
        return read


def test_a_closed_loop_lasts_from_its_first_query_on_not_from_what_was_before() -> None:
    clock = Stalls()
    target = SessionTarget([Known(clock, 2 * MS)], _feeds, batch=1, clock=clock)
    run = target.closed_loop(Until(seconds=0.01, queries=3))
    assert run.due[0] == 2 * MS
    assert run.seconds == 0.01


def test_an_open_loop_counts_latency_from_when_a_query_was_due() -> None:
    _, target = _known(10 * MS)
    run = target.open_loop(np.array([0, MS, 2 * MS, 50 * MS]))
    assert run.latencies.tolist() == [10 * MS, 19 * MS, 28 * MS, 10 * MS]
    assert run.late.tolist() == [0, 0, 0, 0]


def test_waking_late_is_the_generators_and_waiting_in_line_is_not() -> None:
    _, target = _known(10 * MS, oversleep=50_000)
    run = target.open_loop(np.array([0, MS, 50 * MS]))
    assert run.late.tolist() == [0, 0, 50_000]
    assert run.latencies.tolist() == [10 * MS, 19 * MS, 10 * MS + 50_000]


def test_queries_that_wait_are_answered_together_up_to_the_batch() -> None:
    session, target = _known(10 * MS, batch=3)
    run = target.open_loop(np.array([0, MS, 2 * MS, 3 * MS, 4 * MS, 60 * MS]))
    assert session.sizes == [1, 3, 1, 1]
    assert (run.due + run.latencies).tolist() == [10 * MS, *[20 * MS] * 3, 30 * MS, 70 * MS]


def test_an_open_loop_that_cannot_end_well_ends() -> None:
    _, target = _known(10 * MS)
    run = target.open_loop(np.arange(1000) * MS, GiveUp(latency=50 * MS, most=2))
    assert run.given_up
    assert (run.latencies > 50 * MS).sum() == 3
    assert run.queries < 10


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (8, [8]), (9, [8])])
def test_a_query_of_eight_samples_is_cut_into_batches(batch: int, sizes: list[int]) -> None:
    session, target = _known(MS, batch=batch)
    run = target.closed_loop(Until(seconds=0, queries=1), samples=8)
    assert session.sizes == sizes
    assert run.latencies.tolist() == [MS * len(sizes)]


def test_all_at_once_keeps_each_inference() -> None:
    session, target = _known(MS, 3 * MS, batch=4)
    run = target.at_once(3)
    assert session.sizes == [4, 4, 4]
    assert run.due.tolist() == [0, MS, 4 * MS]
    assert run.latencies.tolist() == [MS, 3 * MS, MS]
    assert run.samples == 4


@pytest.fixture
def real(onnx_file: Path) -> SessionTarget:
    sessions = [runtimes.get("onnxruntime").load(onnx_file) for _ in range(2)]
    return SessionTarget(
        sessions, lambda count: {"image": np.zeros((count, *SHAPE), np.float32)}, batch=4
    )


def test_two_streams_of_a_real_engine_answer_every_query(real: SessionTarget) -> None:
    with real:
        real.warm_up(0.01)
        due = np.arange(200) * 100_000
        open_run = real.open_loop(due)
        assert open_run.queries == open_run.latencies.size == 200
        assert (open_run.latencies > 0).all()
        assert real.closed_loop(Until(0.01, 5), samples=9).latencies.size >= 5
        assert (real.at_once(20).done > 0).all()


class Failing(Known):
    def _run(self, feeds: Feeds) -> Outputs:
        if len(self.sizes) == 3:
            raise RuntimeError("the engine broke")
        return super()._run(feeds)


def test_an_engine_that_fails_ends_the_run_on_all_streams() -> None:
    before = threading.active_count()
    clock = ManualClock()
    sessions = [Failing(clock, MS), Failing(clock, MS)]
    with (
        SessionTarget(sessions, _feeds, clock=clock) as target,
        pytest.raises(EdgekitError, match="the engine broke"),
    ):
        target.open_loop(np.arange(10_000) * MS)
    assert threading.active_count() == before
