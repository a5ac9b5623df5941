"""Profiles of one model by time: what became faster or slower, and what had changed before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from edgekit.profile.records import Profile, Result
from edgekit.profile.samples import Samples
from edgekit.report.document import (
    HistoryDocument,
    Series,
    SeriesPoint,
    latency_record,
)
from edgekit.report.figures import difference, interval_text
from edgekit.report.marks import legend, marks_of
from edgekit.report.markup import figure, line, section, table, text, texts
from edgekit.report.page import document
from edgekit.report.plots.history import history_lines
from edgekit.report.sections.origin import machine_text
from edgekit.report.settings import settings_text

__all__ = ["history_document", "history_page"]

#: What is measured the same way: artifact, setting, machine.
_Key = tuple[str, str, str]


def history_document(name: str, profiles: Sequence[Profile]) -> HistoryDocument:
    """Series, what changed between profiles, and what became of latencies, in words.

    Args:
        name: of the model.
        profiles: at least one, the oldest first.
    """
    series = [
        Series(
            artifact=artifact,
            setting=setting,
            machine=machine,
            points=tuple(
                SeriesPoint(
                    created=profiles[index].created,
                    latency=latency_record(samples),
                    versions=profiles[index].versions,
                )
                for index, samples in points
            ),
        )
        for (artifact, setting, machine), points in _series(profiles).items()
    ]
    return HistoryDocument(
        name=name,
        sentences=tuple(_sentences(profiles)),
        events=tuple(told for _, told in _events(profiles)),
        series=tuple(series),
    )


def history_page(profiles: Sequence[Profile], found: HistoryDocument) -> str:
    """The page of a history, in the style of the report."""
    events = _events(profiles)
    lead = found.sentences[0] if found.sentences else "No latency changed by more than chance."
    hero = (
        '<section id="summary" class="hero" aria-labelledby="summary-title">'
        f'<h2 id="summary-title" class="hidden">Summary</h2><p class="verdict">{text(lead)}</p>'
        f"{texts(found.sentences[1:])}</section>"
    )
    span = f"{len(profiles)} profiles, {profiles[0].created[:10]} to {profiles[-1].created[:10]}"
    charts = "".join(_charts(profiles, [index for index, _ in events]))
    parts = [
        hero,
        section(
            "latency", "Latency by time", charts, lead="Bands are 95 % intervals of the median."
        ),
        section("changes", "What changed in between", texts(found.events, "ol")),
        section("figures", "Figures", _table(found)),
    ]
    return document(f"{found.name}: history", span, parts)


def _series(profiles: Sequence[Profile]) -> dict[_Key, list[tuple[int, Samples]]]:
    found: dict[_Key, list[tuple[int, Samples]]] = {}
    for index, profile in enumerate(profiles):
        for result in profile.results:
            points = found.setdefault(_key(profile, result), [])
            if not points or points[-1][0] != index:  # one point a profile
                points.append((index, result.samples))
    return found


def _key(profile: Profile, result: Result) -> _Key:
    samples = result.samples
    scenario = "" if samples.scenario == "single-stream" else f", {samples.scenario}"
    setting = f"{samples.call}; {settings_text(result)}{scenario}"
    limits = ""
    if profile.simulated is not None:
        limits = f", {profile.simulated.label(profile.machine.cpu)}"
    return samples.artifact, setting, f"{machine_text(profile.machine)}{limits}"


def _sentences(profiles: Sequence[Profile]) -> Iterator[str]:
    """The newest change first: slower ones before faster ones of the same profile."""
    events = _events(profiles)
    found = []
    for (artifact, setting, _), points in _series(profiles).items():
        for (before, first), (after, second) in pairwise(points):
            change = difference(first, second)
            if change.ratio is None or change.verdict not in {"better", "worse"}:
                continue
            told = _told(
                artifact, setting, profiles, (before, after), (first, second), change.ratio
            )
            why = [told for index, told in events if before < index <= after]
            more = f" In between: {'; '.join(why)}." if why else ""
            found.append((-after, change.verdict == "better", f"{told}{more}"))
    yield from (told for *_, told in sorted(found, key=lambda one: one[:2]))


def _told(
    artifact: str,
    setting: str,
    profiles: Sequence[Profile],
    indices: tuple[int, int],
    both: tuple[Samples, Samples],
    ratio: float,
) -> str:
    before, after = (latency_record(one) for one in both)
    kind = "faster" if ratio > 1 else "slower"
    when = profiles[indices[1]].created[:16].replace("T", " ")
    return (
        f"{artifact} became {abs(1 / ratio - 1):.0%} {kind} with the profile of {when}: p50 "
        f"{before.p50:.3f} {interval_text(*before.p50_interval)} to {after.p50:.3f} "
        f"{interval_text(*after.p50_interval)} ms ({setting})."
    )


def _events(profiles: Sequence[Profile]) -> list[tuple[int, str]]:
    """Before which profile what changed, in words."""
    found = []
    for index, (before, after) in enumerate(pairwise(profiles), 1):
        changes = list(_between(before, after))
        if changes:
            found.append((index, f"{after.created[:10]}: {', '.join(changes)}"))
    return found


def _between(before: Profile, after: Profile) -> Iterator[str]:
    if before.edgekit != after.edgekit:
        yield f"edgekit {before.edgekit} to {after.edgekit}"
    for name in sorted({*before.versions, *after.versions}):
        pair = before.versions.get(name), after.versions.get(name)
        if None not in pair and pair[0] != pair[1]:
            yield f"{name} {pair[0]} to {pair[1]}"
    both = sorted(before.artifacts.keys() & after.artifacts.keys())
    rebuilt = [name for name in both if before.artifacts[name] != after.artifacts[name]]
    if rebuilt:
        yield f"built anew: {', '.join(rebuilt)}"
    if before.machine.cpu != after.machine.cpu or before.machine.cores != after.machine.cores:
        yield f"another machine: {machine_text(after.machine)}"
    elif before.machine.system != after.machine.system:
        yield f"system {before.machine.system} to {after.machine.system}"


def _charts(profiles: Sequence[Profile], events: Sequence[int]) -> Iterator[str]:
    """One for each setting and machine, the most measured first."""
    groups: dict[tuple[str, str], dict[str, list[tuple[int, float, float, float]]]] = {}
    for (artifact, setting, machine), points in _series(profiles).items():
        curve = groups.setdefault((setting, machine), {}).setdefault(artifact, [])
        for index, samples in points:
            found = latency_record(samples)
            low, high = found.p50_interval
            curve.append((index, found.p50, low, high if math.isfinite(high) else found.p50))
    marks = marks_of(name for curves in groups.values() for name in curves)
    dates = [profile.created for profile in profiles]
    ranked = sorted(groups.items(), key=lambda one: -sum(map(len, one[1].values())))
    for (setting, machine), curves in ranked:
        yield figure(
            f"{setting} on {machine}",
            history_lines(curves, marks, dates, events),
            legend=legend(marks, curves),
            note="A numbered line: something changed before this profile, see below."
            if events
            else "",
        )


def _table(found: HistoryDocument) -> str:
    lines = [
        line(
            text(series.artifact),
            text(point.created[:16].replace("T", " ")),
            str(point.latency.count),
            f"{point.latency.p50:.3f}",
            f"<small>{interval_text(*point.latency.p50_interval)}</small>",
            f"{'' if point.latency.p99_supported else '~'}{point.latency.p99:.3f}",
            text(series.setting),
        )
        for series in found.series
        for point in series.points
    ]
    heads = ("artifact", "measured", "#samples", "#p50 ms", "95 % interval", "#p99", "setting")
    return table(heads, lines, caption="Every profile")
