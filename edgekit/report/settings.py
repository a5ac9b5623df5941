"""Settings and outcomes of scenarios in words."""

from __future__ import annotations

from edgekit.profile.records import Outcome, Result

__all__ = ["outcome_text", "settings_text"]


def settings_text(result: Result) -> str:
    """How an artifact was run: ``2 threads, batch 8, sequence 128``."""
    settings = result.settings
    threads = settings.threads or result.samples.threads
    parts = [f"{threads} thread{'' if threads == 1 else 's'}" if threads else "engine's threads"]
    if settings.streams != 1:
        parts.append(f"{settings.streams} streams")
    if settings.batch != 1:
        parts.append(f"batch {settings.batch}")
    parts += [f"{name} {size}" for name, size in settings.sizes.items()]
    if settings.device:
        parts.append(f"on {settings.device}")
    return ", ".join(parts)


def outcome_text(outcome: Outcome) -> str:
    """What a scenario is judged by: ``p90 latency 1.31 ms``."""
    unit = " ms" if "latency" in outcome.metric else ""
    told = f"{outcome.metric} {outcome.value:.4g}{unit}"
    if outcome.target is not None:
        share, most = outcome.target
        told += f" with p{share:g} within {most:g} ms"
    return told
