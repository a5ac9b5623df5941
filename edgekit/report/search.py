"""The trials of a search as rows: what was tried, and what is worth choosing from."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.compress.search.journal import Trial, pareto
from edgekit.manifest import Manifest

__all__ = ["TrialRow", "search_rows"]


@dataclass(frozen=True, slots=True)
class TrialRow:
    """What is known of one choice of operators to leave float, from all its trials.

    Attributes:
        engine: the runtime it was tried for.
        kind: ``simulated`` or ``measured``.
        keep_float: operators that stayed float.
        score: the workload's metric; None where it was not evaluated.
        speedup: against the all-int8 artifact; None where it was not timed.
        pareto: whether no other measured choice beats it in both score and speed.
        note: why it was tried and what became of it.
    """

    engine: str
    kind: str
    keep_float: tuple[str, ...]
    score: float | None
    speedup: float | None
    pareto: bool
    note: str


def search_rows(manifest: Manifest) -> list[TrialRow]:
    """One row a choice, in the order in which they were tried first.

    The searches for speed and for accuracy each write down their own figure, so what is known of
    one choice is put together here. The all-int8 artifact is what speeds are relative to.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[Trial]] = {}
    for trial in manifest.search:
        key = (trial.engine, trial.kind, tuple(sorted(trial.keep_float)))
        groups.setdefault(key, []).append(trial)
    timed = {trial.engine for trial in manifest.search if trial.speedup is not None}
    known = [_together(trials, timed=trials[0].engine in timed) for trials in groups.values()]
    better = manifest.accuracy.higher_is_better if manifest.accuracy else True
    front = [
        trial
        for engine in dict.fromkeys(trial.engine for trial in known)
        for trial in pareto(
            [one for one in known if one.engine == engine and one.kind == "measured"],
            higher_is_better=better,
        )
    ]
    return [
        TrialRow(
            engine=trial.engine,
            kind=trial.kind,
            keep_float=trial.keep_float,
            score=trial.score,
            speedup=trial.speedup,
            pareto=trial in front,
            note=trial.note,
        )
        for trial in known
    ]


def _together(trials: list[Trial], *, timed: bool) -> Trial:
    first = trials[0]
    scores = [trial.score for trial in trials if trial.score is not None]
    speeds = [trial.speedup for trial in trials if trial.speedup is not None]
    if timed and first.kind == "measured" and not first.keep_float:
        speeds = [1.0]
    return first.model_copy(
        update={
            "score": scores[-1] if scores else None,
            "speedup": speeds[-1] if speeds else None,
            "note": ", ".join(dict.fromkeys(trial.note for trial in trials if trial.note)),
        }
    )
