"""The trials of a search, written down as they happen, so that a killed search can go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Journal", "Trial", "pareto"]


class Trial(BaseModel):
    """One thing that was tried.

    Attributes:
        engine: the runtime it was tried for.
        kind: ``measured``: on its engine. Journals of earlier versions know ``simulated``, too.
        keep_float: operators that stayed float.
        score: the workload's metric; None where it was not evaluated.
        speedup: against the all-int8 artifact, interleaved; None where it was not timed.
        low: lower end of its 95 % interval.
        note: why it was tried; after a colon, what became of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    engine: str
    kind: str
    keep_float: tuple[str, ...]
    score: float | None = None
    speedup: float | None = None
    low: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], str]:
        """What makes it the same trial when the search is resumed."""
        why, _, _ = self.note.partition(":")
        return (self.engine, self.kind, tuple(sorted(self.keep_float)), why)


class Journal:
    """An append-only file of trials, one JSON document a line, flushed to disk after each.

    The first line holds the fingerprint of what is searched. A journal of something else is begun
    anew; a line torn by a crash is dropped.

    Args:
        path: the file; None keeps the trials in memory only.
        fingerprint: of the model, the data and the recipe.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path = path
        self.trials: list[Trial] = []
        self.resumed = 0
        if path is None:
            return
        # A crash may tear a line inside a character.
        lines = path.read_text("utf-8", "replace").split("\n") if path.is_file() else [""]
        if _header(lines[0]) == fingerprint:
            self.trials = [trial for line in lines[1:] if (trial := _parse(line)) is not None]
            self.resumed = len(self.trials)
        self._rewrite(fingerprint)

    def find(self, trial: Trial) -> Trial | None:
        """The same trial, when it was made before."""
        return next((known for known in self.trials if known.key == trial.key), None)

    def add(self, trial: Trial) -> Trial:
        """Write a trial down."""
        self.trials.append(trial)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(trial.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        return trial

    def close(self) -> None:
        """The search is done: what it found is in the bundle now, and the file is removed."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _rewrite(self, fingerprint: str) -> None:
        assert self._path is not None
        lines = [json.dumps({"fingerprint": fingerprint})]
        lines += [trial.model_dump_json() for trial in self.trials]
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
        temporary.replace(self._path)


def pareto(trials: list[Trial], *, higher_is_better: bool) -> list[Trial]:
    """The measured trials that no other one beats in both score and speed, the fastest first."""
    known = [t for t in trials if t.score is not None and t.speedup is not None]
    sign = 1.0 if higher_is_better else -1.0

    def figures(trial: Trial) -> tuple[float, float]:
        return sign * (trial.score or 0.0), trial.speedup or 0.0

    def beaten(trial: Trial) -> bool:
        own = figures(trial)
        return any(
            all(a >= b for a, b in zip(figures(other), own, strict=True)) and figures(other) != own
            for other in known
        )

    front = {figures(trial): trial for trial in known if not beaten(trial)}
    return sorted(front.values(), key=lambda trial: -(trial.speedup or 0.0))


def _header(line: str) -> str | None:
    try:
        header = json.loads(line)
    except ValueError:
        return None
    return header.get("fingerprint") if isinstance(header, dict) else None


def _parse(line: str) -> Trial | None:
    try:
        return Trial.model_validate_json(line)
    except ValidationError:
        return None
