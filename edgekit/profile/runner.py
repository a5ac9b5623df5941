"""The one timing loop: several artifacts in turn, so that all see the same machine."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.profile.samples import Samples, Watch
from edgekit.profile.streams import Streams, timed_block
from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["BLOCK", "Timed", "profile_interleaved"]

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
    warmup: int = 10,
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
        warmup: inferences of each entry before the first round.
        watch: is given what each round added, between rounds: what it takes is in no latency.

    Returns:
        One :class:`Samples` an entry, in the order of ``entries``.

    Raises:
        EdgekitError: an inference failed.
    """
    order = np.random.default_rng(0)
    run = uuid.uuid4().hex
    taken: list[list[tuple[int, int]]] = [[] for _ in entries]
    with ExitStack() as stack:
        turns = [stack.enter_context(_Turns(entry, entry.feeds or feeds)) for entry in entries]
        for entry, turn in zip(entries, turns, strict=True):
            with _named(entry):
                turn.warm_up(warmup)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        begin = time.perf_counter_ns()

        def records(first: int) -> list[Samples]:
            """All rounds from that one on."""
            return [
                Samples(
                    artifact=turn.entry.artifact,
                    runtime=turn.entry.runtime,
                    run=run,
                    shapes={name: array.shape for name, array in turn.feeds.items()},
                    threads=turn.entry.threads or threads,
                    warmup=warmup,
                    block=turn.size,
                    latencies_ns=tuple(took for _, took in values[first * turn.size :]),
                    starts_ns=tuple(start - begin for start, _ in values[first * turn.size :]),
                    machine=this_machine(),
                    started=started,
                )
                for turn, values in zip(turns, taken, strict=True)
            ]

        deadline = time.monotonic() + max_seconds
        stack.enter_context(_no_garbage_collection())
        for number in range(max_rounds):
            if number >= min_rounds and time.monotonic() > deadline:
                break
            for index in order.permutation(len(entries)):
                with _named(entries[index]):
                    taken[index] += turns[index].take()
            if watch is not None:
                watch(records(number))
        return records(0)


class _Turns:
    """What an entry does when it is its turn."""

    def __init__(self, entry: Timed, feeds: Feeds) -> None:
        self.entry, self.feeds = entry, feeds
        self.size = entry.block * (1 + len(entry.others))
        self._streams = Streams((entry.session, *entry.others)) if entry.others else None

    def warm_up(self, count: int) -> None:
        if self._streams is not None:
            self._streams.block(self.feeds, count)
        for _ in range(0 if self._streams else count):
            self.entry.session.run(self.feeds)

    def take(self) -> list[tuple[int, int]]:
        """When each inference of the turn began, and what it took, in nanoseconds."""
        if self._streams is not None:
            return self._streams.block(self.feeds, self.entry.block)
        self.entry.session.run(self.feeds)
        return timed_block(self.entry.session, self.feeds, self.entry.block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._streams is not None:
            self._streams.close()


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
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
