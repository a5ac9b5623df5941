"""The one timing loop: several artifacts in turn, so that all see the same machine."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.profile.samples import Samples
from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["BLOCK", "Timed", "no_garbage_collection", "profile_interleaved"]

#: Inferences counted in a row before the next artifact's turn. The first one of each turn is not
#: counted: it pays for the caches and the sleeping threads that the artifact before it left. Seen
#: on two cores with EfficientNet-Lite0: an OpenVINO session of 1.3 ms alone took 2.7 ms when it
#: took turns with ONNX Runtime one by one, 1.5 ms in blocks of four after an uncounted one.
BLOCK = 4


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
    warmup: int = 10,
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
        warmup: inferences of each entry before the first round.

    Returns:
        One :class:`Samples` an entry, in the order of ``entries``.

    Raises:
        EdgekitError: an inference failed.
    """
    order = np.random.default_rng(0)
    latencies: list[list[int]] = [[] for _ in entries]
    run = uuid.uuid4().hex
    for entry in entries:
        with _named(entry):
            for _ in range(warmup):
                entry.session.run(entry.feeds or feeds)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    deadline = time.monotonic() + max_seconds
    with no_garbage_collection():
        for number in range(max_rounds):
            if number >= min_rounds and time.monotonic() > deadline:
                break
            for index in order.permutation(len(entries)):
                with _named(entries[index]):
                    latencies[index] += _block(
                        entries[index].session, entries[index].feeds or feeds
                    )
    return [
        Samples(
            artifact=entry.artifact,
            runtime=entry.runtime,
            run=run,
            shapes={name: array.shape for name, array in (entry.feeds or feeds).items()},
            threads=threads,
            warmup=warmup,
            block=BLOCK,
            latencies_ns=tuple(values),
            machine=this_machine(),
            started=started,
        )
        for entry, values in zip(entries, latencies, strict=True)
    ]


def _block(session: Session, feeds: Feeds) -> list[int]:
    session.run(feeds)
    values = []
    for _ in range(BLOCK):
        start = time.perf_counter_ns()
        session.run(feeds)
        values.append(time.perf_counter_ns() - start)
    return values


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
