"""The one timing loop: several artifacts in turn, so that all see the same machine."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.profile.conditions import ConditionsWatch
from edgekit.profile.samples import Samples, WarmUp, Watch
from edgekit.profile.streams import Streams, timed_block
from edgekit.profile.warmup import Clock, warm_up
from edgekit.runtimes import Session
from edgekit.spec import Feeds
from edgekit.timestamp import timestamp

__all__ = ["BLOCK", "Timed", "no_garbage_collection", "profile_interleaved"]

#: Inferences counted in a row before the next artifact's turn. The first one of each turn is not
#: counted: it pays for the caches and the sleeping threads that the artifact before it left. Seen
#: on two cores with EfficientNet-Lite0: an OpenVINO session of 1.3 ms alone took 2.7 ms when it
#: took turns with ONNX Runtime one by one, 1.5 ms in blocks of four after an uncounted one.
BLOCK = 4

_WARM_UP_SHARE: Final = 0.25
_ORDERS: Final = 256


@dataclass(frozen=True, slots=True)
class Timed:
    """A loaded artifact to be timed.

    Attributes:
        feeds: its input, where it takes another one than the rest.
        threads: what its session was loaded with, where it differs from the rest.
        others: further sessions of it, that run at the same time.
        block: inferences of each session in a row, see :data:`BLOCK`.
    """

    artifact: str
    runtime: str
    session: Session
    feeds: Feeds | None = None
    threads: int | None = None
    others: tuple[Session, ...] = ()
    block: int = BLOCK


def profile_interleaved(
    entries: Sequence[Timed],
    feeds: Feeds,
    *,
    threads: int | None,
    min_rounds: int,
    max_rounds: int,
    max_seconds: float,
    warmup: int | None = None,
    clock: Clock = time.perf_counter_ns,
    watch: Watch | None = None,
) -> list[Samples]:
    """Time every entry on the same feeds, in blocks, in another order each round.

    A change of the machine's speed during the run hits all entries alike. The order is shuffled
    (with a fixed seed), because what an entry leaves behind slows the next one down: with a fixed
    order an OpenVINO session that always came after ONNX Runtime measured 16 % slower than the same
    session after another OpenVINO one.

    Args:
        entries: loaded artifacts.
        feeds: the input of every inference.
        threads: what the sessions were loaded with, for the record.
        min_rounds: at least this many rounds, however long they take.
        max_rounds: at most this many.
        max_seconds: no new round after this time.
        warmup: inferences of each entry before the first round; None for as many as it takes until
            latencies are stable, in at most a quarter of ``max_seconds`` for all entries.
        clock: nanoseconds; another one for synthetic engines.
        watch: is given what each round added, between rounds: what it takes is in no latency.

    Returns:
        One :class:`Samples` an entry, in the order of ``entries``.

    Raises:
        EdgekitError: an inference failed.
    """
    limit = max_seconds * _WARM_UP_SHARE / max(1, len(entries))
    with ExitStack() as stack:
        turns = [_Turns(entry, entry.feeds or feeds, clock, stack) for entry in entries]
        for turn in turns:
            turn.warm_up(warmup, limit)
        record = _Recorder(turns, threads, known_warm_up=warmup is None, began=clock())
        weather = ConditionsWatch(clock)
        stack.enter_context(no_garbage_collection())
        for number in _rounds(turns, min_rounds, max_rounds, max_seconds, clock, weather):
            if watch is not None:
                watch(record.since(number))
        conditions = weather.stop()
    return [one.model_copy(update={"conditions": conditions}) for one in record.since(0)]


class _Turns:
    """What an entry does when it is its turn, and what came of it.

    Attributes:
        size: inferences that a turn adds.
        starts: when each inference began, by the clock.
        latencies: what each took, in nanoseconds.
        warm: how its warm-up went.
    """

    def __init__(self, entry: Timed, feeds: Feeds, clock: Clock, stack: ExitStack) -> None:
        self.entry, self.feeds, self._clock = entry, feeds, clock
        self.size = entry.block * (1 + len(entry.others))
        self.starts: list[int] = []
        self.latencies: list[int] = []
        self.warm = WarmUp(calls=0, seconds=0.0, steady=False)
        self._calls = range(entry.block)
        self._streams: Streams | None = None
        if entry.others:
            self._streams = Streams((entry.session, *entry.others), feeds, clock)
            stack.callback(self._streams.close)

    def warm_up(self, calls: int | None, limit: float) -> None:
        """That many calls, or until latencies are stable, in at most ``limit`` seconds."""
        with _named(self.entry):
            if calls is None:
                self.warm = warm_up(self._once, self._clock, limit)
                return
            start = self._clock()
            for _ in range(calls):
                self._once()
            seconds = (self._clock() - start) / 1e9
            self.warm = WarmUp(calls=calls, seconds=seconds, steady=False)

    def _once(self) -> None:
        if self._streams is not None:
            self._streams.block(range(1))
        else:
            self.entry.session.run(self.feeds)

    def take(self) -> None:
        """One turn: an inference that is not counted, then those that are."""
        with _named(self.entry):
            if self._streams is None:
                session = self.entry.session
                session.run(self.feeds)
                timed_block(
                    session, self.feeds, self._calls, self._clock, self.starts, self.latencies
                )
                return
            for start, took in self._streams.block(self._calls):
                self.starts.append(start)
                self.latencies.append(took)


class _Recorder:
    """Makes records of turns."""

    def __init__(
        self, turns: Sequence[_Turns], threads: int | None, *, known_warm_up: bool, began: int
    ) -> None:
        self._turns, self._threads, self._began = turns, threads, began
        self._known_warm_up = known_warm_up
        self._run = uuid.uuid4().hex
        self._started = timestamp()

    def since(self, number: int) -> list[Samples]:
        """All rounds from that one on."""
        return [
            Samples(
                artifact=turn.entry.artifact,
                runtime=turn.entry.runtime,
                run=self._run,
                shapes={name: array.shape for name, array in turn.feeds.items()},
                threads=turn.entry.threads or self._threads,
                warmup=turn.warm.calls,
                block=turn.size,
                latencies_ns=tuple(turn.latencies[number * turn.size :]),
                starts_ns=tuple(at - self._began for at in turn.starts[number * turn.size :]),
                warm_up=turn.warm if self._known_warm_up else None,
                machine=this_machine(),
                started=self._started,
            )
            for turn in self._turns
        ]


def _rounds(
    turns: Sequence[_Turns],
    least: int,
    most: int,
    max_seconds: float,
    clock: Clock,
    weather: ConditionsWatch,
) -> Iterator[int]:
    """Lets all take turns; gives the number of each round when it is over."""
    generator = np.random.default_rng(0)
    orders = (order for _ in repeat(None) for order in _orders(generator, len(turns)))
    takes = [turn.take for turn in turns]
    deadline = clock() + int(max_seconds * 1e9)
    for number in range(most):
        if number >= least and clock() > deadline:
            break
        weather.look()
        for index in next(orders):
            takes[index]()
        yield number


def _orders(generator: np.random.Generator, count: int) -> list[list[int]]:
    """Many shuffled orders at once: numpy takes microseconds a call."""
    rows = np.tile(np.arange(count), (_ORDERS, 1))
    orders: list[list[int]] = generator.permuted(rows, axis=1).tolist()
    return orders


@contextmanager
def _named(entry: Timed) -> Iterator[None]:
    """Say which artifact failed: an engine's own message does not know."""
    try:
        yield
    except Exception as error:  # engines raise types of their own
        raise EdgekitError(
            f"inference failed: {error}",
            where=f"artifact {entry.artifact} on {entry.runtime}",
            fix="Run edgekit verify on the bundle",
        ) from error


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
