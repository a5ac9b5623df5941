"""What a run has measured so far, on disk as it happens: a killed run can go on where it was.

``NAME.partial.jsonl`` lies where ``NAME.json`` will be. Its first line says what is measured; each
further line stands for itself, so that one which a crash has torn costs nothing else::

    {"edgekit": "0.1.0", "key": ...}                       what is measured, by hash
    {"points": [...], "samples": [...]}                    a run begins: records of its first round
    {"run": ..., "latencies_ns": [...], "starts_ns": ...}  a further round of it, entry by entry
    {"end": ..., "samples": [...]}                         it is done: its records but the latencies
    {"piece": "costs x", "value": {...}}                   anything else that was measured whole

A line is with the system when a round is over, so a killed process loses the round under way. It
is with the disk within a second, for when the power fails.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import edgekit
from edgekit.closing import Closing
from edgekit.profile.growing import GrowingFile, free_to_write
from edgekit.profile.samples import Samples, Watch

__all__ = ["Before", "Journal", "document_of", "journal_of", "journals", "unfinished"]

_R = TypeVar("_R", bound=BaseModel)

_SUFFIX = ".partial.jsonl"

_RAW = {"latencies_ns", "starts_ns"}


@dataclass(slots=True)
class _Run:
    """Of one process: the points that took turns, their records, and all rounds so far."""

    points: list[str]
    samples: list[Samples]
    latencies: list[list[int]]
    starts: list[list[int]]
    seconds: float = 0.0
    ended: bool = False

    def record(self, index: int) -> Samples:
        raw = {
            "latencies_ns": tuple(self.latencies[index]),
            "starts_ns": tuple(self.starts[index]),
        }
        return self.samples[index].model_copy(update=raw)


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier processes measured of a point.

    Attributes:
        samples: of all runs, each with its own id.
        rounds: that they had together.
        seconds: that those took; of rounds that several points shared, its share.
        ended: whether the last of them came to its end.
    """

    samples: list[Samples] = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0.0
    ended: bool = False


class Journal(Closing):
    """The journal of one run of ``edgekit profile``; without a path it is in memory only.

    Args:
        path: the file; what it holds already is read.
        identity: what is measured: a journal of something else is begun anew.

    Attributes:
        resumed: whether it held something of this very run.

    Raises:
        OutputError: it cannot be written, there is next to no room, or another process writes it.
    """

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.resumed = False
        self._runs: list[_Run] = []
        self._pieces: dict[str, Any] = {}
        self._file = GrowingFile(path) if path is not None else None
        if self._file is not None:
            self._begin(self._file, _key(identity or {}))

    def _begin(self, file: GrowingFile, key: str) -> None:
        lines = file.path.read_bytes().split(b"\n")
        if _header(lines[0]) == key:
            self.resumed = True
            for line in lines[1:]:
                self._read(line)
            file.begin("\n" if lines[-1] else "", anew=False)  # a last line without end is torn
        else:
            header = json.dumps({"edgekit": edgekit.__version__, "key": key})
            file.begin(f"{header}\n", anew=True)

    def before(self, point: str) -> Before:
        """What is known of a point: an artifact with a setting, by a name of the caller's."""
        runs = [(run, run.points.index(point)) for run in self._runs if point in run.points]
        return Before(
            samples=[run.record(index) for run, index in runs],
            rounds=sum(len(run.latencies[i]) // run.samples[i].block for run, i in runs),
            seconds=sum(run.seconds / len(run.points) for run, _ in runs),
            ended=bool(runs) and runs[-1][0].ended,
        )

    def watch(self, points: Sequence[str]) -> Watch:
        """What the timing loop calls after each round of points that take turns."""
        began = 0.0  # at the end of the first round: the warm-up is over then

        def note(taken: Sequence[Samples]) -> None:
            nonlocal began
            began = began or time.monotonic()
            seconds = round(time.monotonic() - began, 3)
            if self._run(taken[0].run) is None:
                samples = [one.model_dump(mode="json") for one in taken]
                self._add({"points": list(points), "seconds": seconds, "samples": samples})
            else:
                raw = {name: [list(getattr(one, name)) for one in taken] for name in sorted(_RAW)}
                self._add({"run": taken[0].run, "seconds": seconds, **raw})

        return note

    def end(self, samples: Sequence[Samples]) -> None:
        """A run is done; ``samples`` may say more of it than its rounds did."""
        told = [one.model_dump(mode="json", exclude=_RAW) for one in samples]
        self._add({"end": samples[0].run, "samples": told})
        self._sync()

    def piece(self, key: str, kind: type[_R], make: Callable[[], _R]) -> _R:
        """Something that is measured whole: as it was measured before, or by ``make`` now.

        Args:
            key: unique in the run, such as ``costs openvino-int8``.
            kind: the record that ``make`` returns.
            make: measures it.
        """
        if key in self._pieces:
            try:
                return kind.model_validate(self._pieces[key])
            except ValidationError:  # of another version of edgekit, say: measured again
                del self._pieces[key]
        made = make()
        self._add({"piece": key, "value": made.model_dump(mode="json")})
        self._sync()
        return made

    @property
    def count(self) -> int:
        """Samples that it knows of."""
        return sum(len(values) for run in self._runs for values in run.latencies)

    @property
    def empty(self) -> bool:
        """Whether nothing was measured yet."""
        return not (self._runs or self._pieces)

    def rest(self) -> bytes:
        """Lines that cannot be written anywhere, now either."""
        if self._file is None:
            return b""
        self._file.flush()
        return self._file.held

    @property
    def place(self) -> str:
        """Where the samples are, in words; empty in memory only."""
        if self._file is None:
            return ""
        told = str(self._file.path)
        if self._file.trouble:
            told += f", which could not grow ({self._file.trouble})"
        if self._file.aside is not None:
            told += f"; the rest is in {self._file.aside}, append it when there is room"
        return told

    def close(self, *, done: bool = False) -> None:
        """Let go of the file.

        Args:
            done: everything is in a document now, so the file is removed.
        """
        file, self._file = self._file, None
        if file is not None:
            if done:
                file.remove()
            else:
                file.sync()
            file.close()

    def _run(self, identity: str) -> _Run | None:
        return next((run for run in self._runs if run.samples[0].run == identity), None)

    def _add(self, entry: dict[str, Any]) -> None:
        self._learn(entry)
        if self._file is not None:
            self._file.append(json.dumps(entry, separators=(",", ":")))

    def _sync(self) -> None:
        if self._file is not None:
            self._file.sync()

    def _read(self, line: bytes) -> None:
        """Take up a line of the file; one that a crash has torn says nothing."""
        try:
            entry = json.loads(line)
            if isinstance(entry, dict):
                self._learn(entry)
        except (ValueError, KeyError, TypeError):  # ValueError: JSON's and pydantic's, too
            return

    def _learn(self, entry: dict[str, Any]) -> None:
        if "points" in entry:
            samples = [Samples.model_validate(one) for one in entry["samples"]]
            run = _Run(
                entry["points"],
                samples,
                [list(one.latencies_ns) for one in samples],
                [list(one.starts_ns) for one in samples],
                entry["seconds"],
            )
            self._runs.append(run)
        elif "piece" in entry:
            self._pieces[entry["piece"]] = entry["value"]
        elif (known := self._run(entry.get("run") or entry.get("end", ""))) is None:
            return
        elif "end" in entry:
            raw = {"latencies_ns": (1,)}  # a record has some; :meth:`_Run.records` has the real
            known.samples = [Samples.model_validate({**one, **raw}) for one in entry["samples"]]
            known.ended = True
        else:
            for values, more in zip(known.latencies, entry["latencies_ns"], strict=True):
                values.extend(more)
            for values, more in zip(known.starts, entry["starts_ns"], strict=True):
                values.extend(more)
            known.seconds = entry["seconds"]


def journal_of(path: Path) -> Path:
    """The journal of the document ``path``."""
    return path.with_name(path.stem + _SUFFIX)


def document_of(journal: Path) -> Path:
    """The document that a run with that journal writes at its end."""
    return journal.with_name(journal.name.removesuffix(_SUFFIX) + ".json")


def journals(folder: Path) -> list[Path]:
    """Those in a folder, the newest first where they are named by time."""
    return sorted(folder.glob(f"*{_SUFFIX}"), reverse=True)


def unfinished(candidates: Iterable[Path], identity: Mapping[str, Any]) -> Path | None:
    """The first journal that is of the very same run and that no process is writing."""
    key = _key(identity)
    for path in candidates:
        with suppress(FileNotFoundError), path.open("rb") as stream:
            if _header(stream.readline()) == key and free_to_write(stream.fileno()):
                return path
    return None


def _key(identity: Mapping[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _header(line: bytes) -> str | None:
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return header.get("key") if isinstance(header, dict) else None
