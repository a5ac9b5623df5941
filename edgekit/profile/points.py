"""Measure artifacts with settings, in turns; of a sweep as many at a time as memory holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final, Protocol

from edgekit import runtimes, sensors
from edgekit.bundle import Bundle
from edgekit.machine import resident
from edgekit.manifest import Artifact
from edgekit.profile.journal import Journal
from edgekit.profile.records import Result, Settings
from edgekit.profile.runner import BLOCK, Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.runtimes import Session, SessionOptions
from edgekit.spec import Feeds

__all__ = ["Point", "Unseen", "View", "measure_points", "named"]

#: Sessions that take turns at most: more are too far apart to have seen the same machine.
_SESSIONS: Final = 32

#: Share of the free memory that the sessions of a group may take.
_MEMORY: Final = 0.5

#: Of a sweep fewer, with more inferences each: files of samples would be large.
_MAX_ROUNDS: Final = 1000
_SWEEP_ROUNDS: Final = 250

#: How long a turn of a sweep or of several streams lasts at least, where so many inferences do:
#: the throughput of sessions side by side says little while they begin and end.
_TURN_S: Final = 0.01
_MOST: Final = 32
_MOST_OF_STREAMS: Final = 128
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Point:
    """One artifact with one setting.

    Attributes:
        reason: why it cannot be measured; empty when it can.
    """

    artifact: Artifact
    settings: Settings
    reason: str = ""

    @property
    def name(self) -> str:
        """Unique in a run."""
        return named(self.artifact.id, self.settings)


class View(Protocol):
    """Watches a run; called between rounds only, so that nothing that it does is timed."""

    def stage(self, name: str) -> None:
        """Something is measured now of which no round is told."""

    def planned(self, points: Sequence[Point], seconds: float) -> None:
        """What is going to be measured, ``seconds`` each."""

    def begins(self, points: Sequence[Point]) -> None:
        """These are loaded, and take turns from now on."""

    def took(self, points: Sequence[Point], samples: Sequence[Samples]) -> None:
        """What a round added to each."""

    def skips(self, point: Point, reason: str) -> None:
        """It cannot be measured."""


class Unseen:
    """Shows nothing."""

    def stage(self, name: str) -> None:
        pass

    def planned(self, points: Sequence[Point], seconds: float) -> None:
        pass

    def begins(self, points: Sequence[Point]) -> None:
        pass

    def took(self, points: Sequence[Point], samples: Sequence[Samples]) -> None:
        pass

    def skips(self, point: Point, reason: str) -> None:
        pass


def named(artifact: str, settings: Settings) -> str:
    """An artifact and a setting in words: ``openvino-int8 threads=2 batch=8``."""
    told = [artifact, f"threads={settings.threads or 'all'}", f"batch={settings.batch}"]
    if settings.streams != 1:
        told.append(f"streams={settings.streams}")
    if settings.device is not None:
        told.append(f"device={settings.device}")
    return " ".join([*told, *(f"{name}={size}" for name, size in settings.sizes.items())])


def measure_points(
    bundle: Bundle,
    points: Sequence[Point],
    feeds: Callable[[Settings], Feeds],
    *,
    seconds: float,
    min_rounds: int,
    journal: Journal,
    view: View,
    skip: bool,
) -> tuple[list[Result], dict[str, str]]:
    """Time every point, but what the journal knows already.

    All of them take turns, see :func:`~edgekit.profile.runner.profile_interleaved`. Of a sweep,
    points are loaded in order until their sessions take half of the free memory; when those are
    done come the next.

    Args:
        bundle: that holds the artifacts.
        points: to be measured.
        feeds: the input for a setting.
        seconds: time limit of each point.
        min_rounds: at least this many rounds, however long they take.
        journal: takes every round; gives what earlier processes measured.
        view: watches.
        skip: it is a sweep: go on without a point that its engine refuses; else that is an error.

    Returns:
        One result a point and run (a resumed one has two), and why others were left out.

    Raises:
        EdgekitError: an engine refused an artifact or failed.
    """
    todo = [point for point in points if not journal.before(point.name).ended]
    view.planned(todo, seconds)
    refused: dict[str, str] = {}
    while todo:
        with ExitStack() as stack:
            loader = _Loader(bundle, feeds, stack, skip=skip)
            count = loader.load(todo)
            for point in loader.refused:
                view.skips(point, point.reason)
            if loader.group:
                rounds = min_rounds, _SWEEP_ROUNDS if skip else _MAX_ROUNDS
                _measure(loader.group, loader.entries, seconds, rounds, journal, view)
        refused |= {point.name: point.reason for point in loader.refused}
        todo = todo[count:]
    results = [
        Result(
            samples=one.model_copy(update={"device": point.settings.device}),
            settings=point.settings,
        )
        for point in points
        for one in journal.before(point.name).samples
    ]
    return results, refused


def _measure(
    group: Sequence[Point],
    entries: Sequence[Timed],
    seconds: float,
    rounds: tuple[int, int],
    journal: Journal,
    view: View,
) -> None:
    names = [point.name for point in group]
    before = [journal.before(name) for name in names]
    done = min(one.rounds for one in before)
    note = journal.watch(names)

    def watch(taken: Sequence[Samples]) -> None:
        note(taken)
        view.took(group, taken)

    view.begins(group)
    samples = profile_interleaved(
        entries,
        {},
        threads=None,
        min_rounds=max(1, rounds[0] - done),
        max_rounds=max(1, rounds[1] - done),
        max_seconds=sum(max(0.0, seconds - one.seconds) for one in before),
        watch=watch,
    )
    journal.end(samples)


class _Loader:
    """Loads points until there are enough of them."""

    def __init__(
        self, bundle: Bundle, feeds: Callable[[Settings], Feeds], stack: ExitStack, *, skip: bool
    ) -> None:
        self._bundle, self._feeds, self._stack, self._skip = bundle, feeds, stack, skip
        self.entries: list[Timed] = []
        self.group: list[Point] = []
        self.refused: list[Point] = []

    def load(self, points: Sequence[Point]) -> int:
        """Load the first of the points; how many it came through."""
        memory = sensors.memory()
        limit = resident() + _MEMORY * (memory[0] - memory[1]) if memory else math.inf
        sessions = 0
        for index, point in enumerate(points):
            sessions += point.settings.streams
            full = sessions > _SESSIONS or resident() > limit
            if self._skip and self.entries and full:
                return index
            try:
                self.entries.append(self._entry(point))
                self.group.append(point)
            except Exception as error:
                if not self._skip:
                    raise
                self.refused.append(replace(point, reason=" ".join(str(error).split())))
        return len(points)

    def _entry(self, point: Point) -> Timed:
        artifact, settings = point.artifact, point.settings
        options = SessionOptions(threads=settings.threads, device=settings.device)
        runtime = runtimes.require(artifact.runtime)
        feeds = self._feeds(settings)
        with ExitStack() as own:
            sessions = [
                own.enter_context(runtime.load(self._bundle.file(artifact), options))
                for _ in range(settings.streams)
            ]
            took = max(_tried(session, feeds) for session in sessions)
            self._stack.push(own.pop_all())
        return Timed(
            artifact.id,
            artifact.runtime,
            sessions[0],
            feeds=feeds,
            threads=settings.threads,
            others=tuple(sessions[1:]),
            block=self._block(settings, took),
        )

    def _block(self, settings: Settings, took: float) -> int:
        if settings.streams == 1 and not self._skip:
            return BLOCK
        most = _MOST if settings.streams == 1 else _MOST_OF_STREAMS
        return min(most, max(BLOCK, round(_TURN_S / took)))


def _tried(session: Session, feeds: Feeds) -> float:
    """Seconds of an inference, about: the best of some, as the first allocates."""
    took = math.inf
    for _ in range(_TRIES):
        start = time.perf_counter()
        session.run(feeds)
        took = min(took, time.perf_counter() - start)
    return took
