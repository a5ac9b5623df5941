"""Sessions side by side."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from edgekit.runtimes import Session

from edgekit.profile.rounds import round_seconds
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.streams import Streams
from edgekit.spec import Feeds, Outputs


class Together(Session):
    """Computes only while another one does: a session that ran alone would wait for ever."""

    inputs = outputs = ()

    def __init__(self, meet: threading.Barrier) -> None:
        self._meet = meet

    def _run(self, feeds: Feeds) -> Outputs:
        self._meet.wait(60)
        return feeds

    def _release(self) -> None:
        pass


class Failing(Session):
    """Fails at its third inference."""

    inputs = outputs = ()

    def __init__(self) -> None:
        self._calls = itertools.count()

    def _run(self, feeds: Feeds) -> Outputs:
        if next(self._calls) >= 2:
            raise RuntimeError("out of order")
        return feeds

    def _release(self) -> None:
        pass


def test_streams_compute_at_the_same_time() -> None:
    meet = threading.Barrier(3)
    sessions = [Together(meet) for _ in range(3)]
    entry = Timed("a", "r", sessions[0], others=tuple(sessions[1:]), block=5, threads=2)
    (samples,) = profile_interleaved(
        [entry], {}, threads=1, min_rounds=4, max_rounds=4, max_seconds=1, warmup=2
    )
    assert samples.block == 15
    assert len(samples.latencies_ns) == 4 * 15
    assert samples.threads == 2
    assert list(samples.starts_ns) == sorted(samples.starts_ns)
    took = np.reshape(samples.latencies_ns, (4, 15)).sum(axis=1) / 1e9
    assert (round_seconds(samples) < took).all()  # one after the other they would take that long


def test_a_stream_that_fails_is_told_and_stops_the_others() -> None:
    ticks = itertools.count()
    streams = Streams([Failing(), Failing()], {}, lambda: next(ticks))
    streams.block(range(1))
    with pytest.raises(RuntimeError, match="out of order"):
        streams.block(range(1))
    streams.close()
