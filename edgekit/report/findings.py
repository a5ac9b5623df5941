"""Findings put together for people: on the terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.profile.diagnosis import Finding, diagnose
from edgekit.profile.records import Profile

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["grouped", "print_findings"]


def grouped(findings: Iterable[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """Findings that say the same of several artifacts become one with all their names."""
    kept: dict[tuple[str, str, str], tuple[Finding, list[str]]] = {}
    for finding in findings:
        key = (finding.kind, finding.sentence, finding.advice)
        names = kept.setdefault(key, (finding, []))[1]
        if finding.artifact and finding.artifact not in names:
            names.append(finding.artifact)
    return [(finding, tuple(names)) for finding, names in kept.values()]


def print_findings(profile: Profile, console: Console) -> None:
    """A line a finding and what to do; nothing where there are none."""
    for finding, names in grouped(diagnose(profile)):
        about = f" ({', '.join(names)})" if names else ""
        console.print(
            f"{finding.kind}{about}: {finding.sentence} {finding.advice}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
