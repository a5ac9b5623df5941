"""The outcome of a scenario in one block that can be read at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.profile.records import Outcome, Profile, Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_outcomes"]

_WIDTH = 15


def print_outcomes(profile: Profile, console: Console) -> None:
    """One block a result that has an outcome."""
    for result in profile.results:
        if result.outcome is None:
            continue
        for label, text in _lines(profile.model, result, result.outcome):
            console.print(f"{label:{_WIDTH}}{text}", highlight=False, markup=False, soft_wrap=True)
        console.print()


def _lines(model: str, result: Result, outcome: Outcome) -> list[tuple[str, str]]:
    samples, settings = result.samples, result.settings
    how = [f"{settings.threads} threads"] if settings.threads else []
    how += [f"{settings.streams} streams"] if settings.streams > 1 else []
    how += [f"batch {settings.batch}"] if settings.batch > 1 else []
    name = model if "://" in model else f"{model}, {samples.artifact}"
    lines = [
        (samples.scenario, f"{name} ({', '.join([samples.call, *how])})"),
        ("result", _figure(outcome)),
    ]
    if outcome.target is not None and outcome.latency is not None:
        share, limit = outcome.target
        lines.append((f"p{share:g}", f"{outcome.latency:.4g} ms of {limit:g} ms{_proven(outcome)}"))
    lines.append(("load", _load(outcome)))
    if outcome.late_ms is not None:
        lines.append(("generator", f"late by p99 {outcome.late_ms * 1e3:.0f} us"))
    if len(outcome.tried) > 1:
        told = (f"{rate:.4g} {'held' if held else 'failed'}" for rate, held in outcome.tried)
        lines.append(("tried", ", ".join(told)))
    lines.append(("valid", "yes" if outcome.valid else "NO"))
    lines += [("", reason) for reason in outcome.reasons]
    lines += [("", reason) for reason in outcome.short_of]
    return lines


def _figure(outcome: Outcome) -> str:
    if outcome.metric.endswith("latency"):
        return f"{outcome.metric} {outcome.value:.4g} ms{_proven(outcome)}"
    offered = " were offered, see below" if outcome.target and not outcome.valid else ""
    return f"{outcome.value:.5g} {outcome.metric}{offered}"


def _proven(outcome: Outcome) -> str:
    if outcome.bound is None and outcome.dropped:
        return ""
    if outcome.bound is None:
        return ", too few queries to say what it is at most"
    return f", at most {outcome.bound:.4g} ms with 99 % confidence"


def _load(outcome: Outcome) -> str:
    each = outcome.samples // outcome.queries if outcome.queries else 1
    queries = "1 query" if outcome.queries == 1 else f"{outcome.queries} queries"
    of = f" of {each} samples" if each > 1 else ""
    return f"{queries}{of} in {outcome.seconds:.4g} s, {outcome.dropped} dropped"
