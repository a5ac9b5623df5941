"""The one timing loop: several artifacts in turn, so that all see the same machine."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Final

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.profile.conditions import ConditionsWatch
from edgekit.profile.samples import Samples, WarmUp
from edgekit.profile.warmup import Clock, warm_up
from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["BLOCK", "Timed", "no_garbage_collection", "profile_interleaved"]

#: Inferences counted in a row before the next artifact's turn. The first one of each turn is not
#: counted: it pays for the caches and the sleeping threads that the artifact before it left. Seen
#: on two cores with EfficientNet-Lite0: an OpenVINO session of 1.3 ms alone took 2.7 ms when it
#: took turns with ONNX Runtime one by one, 1.5 ms in blocks of four after an uncounted one.
BLOCK = 4

_BLOCK_CALLS: Final = range(BLOCK)
_WARM_UP_SHARE: Final = 0.25
_ORDERS: Final = 256


@dataclass(frozen=True, slots=True)
class Timed:
    """A loaded artifact to be timed.

    Attributes:
        feeds: its input, where it takes another one than the rest.
    """

    artifact: str
    runtime: str
    session: Session
    feeds: Feeds | None = None


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

    Returns:
        One :class:`Samples` an entry, in the order of ``entries``.

    Raises:
        EdgekitError: an inference failed.
    """
    limit = max_seconds * _WARM_UP_SHARE / max(1, len(entries))
    warm_ups = [_warmed(entry, feeds, warmup, limit, clock) for entry in entries]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    weather = ConditionsWatch(clock)
    with no_garbage_collection():
        taken = _rounds(entries, feeds, min_rounds, max_rounds, max_seconds, clock, weather)
    conditions = weather.stop()
    run = uuid.uuid4().hex
    return [
        Samples(
            artifact=entry.artifact,
            runtime=entry.runtime,
            run=run,
            shapes={name: array.shape for name, array in (entry.feeds or feeds).items()},
            threads=threads,
            warmup=warm.calls,
            block=BLOCK,
            latencies_ns=tuple(latencies),
            starts_ns=tuple(starts),
            conditions=conditions,
            warm_up=warm if warmup is None else None,
            machine=this_machine(),
            started=started,
        )
        for entry, warm, (starts, latencies) in zip(entries, warm_ups, taken, strict=True)
    ]


def _warmed(entry: Timed, feeds: Feeds, calls: int | None, limit: float, clock: Clock) -> WarmUp:
    run, own = entry.session.run, entry.feeds or feeds
    with _named(entry):
        if calls is None:
            return warm_up(lambda: run(own), clock, limit)
        start = clock()
        for _ in range(calls):
            run(own)
        return WarmUp(calls=calls, seconds=(clock() - start) / 1e9, steady=False)


def _rounds(
    entries: Sequence[Timed],
    feeds: Feeds,
    least: int,
    most: int,
    max_seconds: float,
    clock: Clock,
    weather: ConditionsWatch,
) -> list[tuple[list[int], list[int]]]:
    """Starts (from the run's) and latencies of each entry. As little happens here as can be."""
    generator = np.random.default_rng(0)
    orders = (order for _ in repeat(None) for order in _orders(generator, len(entries)))
    turns = [
        (entry, entry.session.run, entry.feeds or feeds, list[int](), list[int]())
        for entry in entries
    ]
    began = clock()
    deadline = began + int(max_seconds * 1e9)
    for number in range(most):
        if number >= least and clock() > deadline:
            break
        weather.look()
        for index in next(orders):
            entry, run, own, starts, latencies = turns[index]
            with _named(entry):
                run(own)
                for _ in _BLOCK_CALLS:
                    start = clock()
                    run(own)
                    end = clock()
                    starts.append(start - began)
                    latencies.append(end - start)
    return [(starts, latencies) for *_, starts, latencies in turns]


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
    """No collection while something is timed; it would count as latency of what runs then."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
