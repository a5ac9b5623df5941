"""Two bundles side by side: what changed, and only what was measured to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from edgekit.profile.samples import Samples
from edgekit.report.document import Change, ComparisonDocument
from edgekit.report.figures import difference, interval, interval_text, same_machine
from edgekit.report.marks import legend, marks_of
from edgekit.report.markup import NONE, columns, facts, figure, line, section, table, text, texts
from edgekit.report.page import document
from edgekit.report.passes import summary_of
from edgekit.report.plots.latency import distributions, percentiles
from edgekit.report.sections.origin import machine_text
from edgekit.report.table import Row, size_text
from edgekit.report.verdict import verdict_of
from edgekit.report.view import View

__all__ = ["compare_views", "comparison_page"]

_Verdict = Literal["better", "worse", "same", "unknown"]

#: A sign before each verdict, so that it is read without colour, too.
_SIGNS = {"better": "▲", "worse": "▼", "same": "=", "unknown": "?"}


def compare_views(first: View, second: View) -> ComparisonDocument:
    """Every figure of both, artifact by artifact, and what may be said of it."""
    changes = tuple(_changes(first, second))
    return ComparisonDocument(
        names=(first.path, second.path),
        sentence=_sentence(first, second, changes),
        notes=tuple(_notes(first, second)),
        changes=changes,
        profiles=(first.profile, second.profile),
    )


def comparison_page(first: View, second: View, found: ComparisonDocument) -> str:
    """The page of a comparison, in the style of the report."""
    told = " → ".join(found.names)
    hero = (
        '<section id="summary" class="hero" aria-labelledby="summary-title">'
        '<h2 id="summary-title" class="hidden">Summary</h2>'
        f'<p class="verdict">{text(found.sentence)}</p>{texts(found.notes)}</section>'
    )
    parts = [
        hero,
        section("changes", "What changed", _table(found)),
        section("latency", "Latency", _plots(first, second)),
        section("passes", "What the passes did", _beside(first, second, _passes)),
        section("verification", "Verification", _beside(first, second, _verified)),
        section("machine", "Machine and versions", _beside(first, second, _origin)),
    ]
    return document(f"{first.manifest.name}: {told}", "Two bundles side by side", parts)


def _changes(first: View, second: View) -> Iterator[Change]:
    names = dict.fromkeys(row.artifact.id for row in (*first.rows, *second.rows))
    for name in names:
        before, after = _row(first, name), _row(second, name)
        if before is None or after is None:
            there = first.path if before is not None else second.path
            told = f"only in {there}"
            yield _change(name, "artifact", "yes" if before else "", "yes" if after else "", told)
            continue
        yield _status(name, before, after)
        yield _size(name, before, after)
        yield from _score(name, first, second, before, after)
        yield _verification(name, before, after)
        yield _latency(name, first, second)


def _change(
    artifact: str, what: str, before: str, after: str, told: str, verdict: _Verdict = "unknown"
) -> Change:
    return Change(
        artifact=artifact, what=what, before=before, after=after, told=told, verdict=verdict
    )


def _status(name: str, before: Row, after: Row) -> Change:
    same = before.status == after.status
    told = "" if same else after.reason
    return _change(name, "status", before.status, after.status, told, "same" if same else "unknown")


def _size(name: str, before: Row, after: Row) -> Change:
    sizes = before.artifact.size, after.artifact.size
    ratio = sizes[0] / max(sizes[1], 1)
    verdict: _Verdict = "same" if sizes[0] == sizes[1] else "better" if ratio > 1 else "worse"
    told = "" if verdict == "same" else f"{sizes[1] / max(sizes[0], 1) - 1:+.1%}"
    return _change(name, "size", size_text(sizes[0]), size_text(sizes[1]), told, verdict)


def _score(name: str, first: View, second: View, before: Row, after: Row) -> Iterator[Change]:
    one, other = first.manifest.accuracy, second.manifest.accuracy
    if one is None or other is None or before.score is None or after.score is None:
        return
    shown = f"{before.score:.4f}", f"{after.score:.4f}"
    if one.metric != other.metric:
        told = f"not compared: {one.metric} and {other.metric} are different metrics"
        yield _change(name, "metric", *shown, told)
        return
    gain = after.score - before.score
    better = gain > 0 if one.higher_is_better else gain < 0
    verdict: _Verdict = "same" if gain == 0 else "better" if better else "worse"
    told = "" if gain == 0 else f"{gain:+.4f}"
    yield _change(name, one.metric.replace("_", " "), *shown, told, verdict)


def _verification(name: str, before: Row, after: Row) -> Change:
    shown = _passed(before), _passed(after)
    verdict: _Verdict = "same"
    if shown[0] != shown[1]:
        verdict = "better" if shown[1] == "passed" else "worse"
    reason = after.verification.reason if after.verification else ""
    return _change(name, "verification", *shown, reason, verdict)


def _passed(row: Row) -> str:
    record = row.verification
    if record is None:
        return "none"
    return ("passed" if record.passed else "failed") if record.ran else "not run"


def _latency(name: str, first: View, second: View) -> Change:
    one, other = _samples(first, name), _samples(second, name)
    shown = _shown(one), _shown(other)
    if one is None or other is None:
        lacking = second if one is not None else first
        return _change(name, "p50 latency", *shown, f"not measured: {lacking.measure}")
    found = difference(one, other)
    return _change(name, "p50 latency", *shown, found.told, found.verdict)


def _shown(samples: Samples | None) -> str:
    if samples is None:
        return ""
    low, high = interval(samples)
    return f"{_median(samples):.3f} ms {interval_text(low, high)}"


def _sentence(first: View, second: View, changes: Sequence[Change]) -> str:
    """What to know first: the one to ship, before and after."""
    ship = verdict_of(second).ship or verdict_of(first).ship
    own = [one for one in changes if one.artifact == ship and one.verdict in {"better", "worse"}]
    told = [_words(one) for one in own if one.what != "status"]
    before = verdict_of(first).ship
    lead = (
        f"{ship}, the artifact to ship" if before == ship else f"{ship} instead of {before} to ship"
    )
    if not ship:
        return "Neither bundle has an artifact to ship."
    unknown = [one for one in changes if one.artifact == ship and one.what == "p50 latency"]
    if unknown and unknown[0].verdict == "unknown":
        told.append(f"latency {unknown[0].told}")
    return f"{lead}: {'; '.join(told) or 'nothing that counts has changed'}."


def _words(change: Change) -> str:
    more = f" ({change.told})" if change.told else ""
    return f"{change.what} {change.verdict}, {change.before} to {change.after}{more}"


def _notes(first: View, second: View) -> Iterator[str]:
    if first.samples and second.samples:
        one, other = first.samples[0].machine, second.samples[0].machine
        if not same_machine(one, other):
            yield (
                f"Measured on different machines, so latencies are not compared: {first.path} on "
                f"{machine_text(one)}; {second.path} on {machine_text(other)}."
            )
        elif first.samples[0].run != second.samples[0].run:
            yield (
                "Measured in different runs on one machine: only intervals that do not overlap are "
                "called a difference."
            )
    if first.manifest.recipe != second.manifest.recipe:
        names = [(one.manifest.recipe or {}).get("name", "none") for one in (first, second)]
        yield f"Recipes differ: {names[0]} and {names[1]}."
    for name in sorted({*first.manifest.versions, *second.manifest.versions}):
        pair = [one.manifest.versions.get(name, "none") for one in (first, second)]
        if pair[0] != pair[1]:
            yield f"{name}: {pair[0]} to {pair[1]}."


def _table(found: ComparisonDocument) -> str:
    lines, last = [], ""
    for one in found.changes:
        name = f"<b>{text(one.artifact)}</b>" if one.artifact != last else ""
        last = one.artifact
        sign = (
            f'<span class="change-{one.verdict}"><b aria-hidden="true">{_SIGNS[one.verdict]}</b> '
            f"{one.verdict}</span>"
        )
        known = one.verdict if one.what != "artifact" else ""
        lines.append(
            line(
                name,
                text(one.what),
                text(one.before) or NONE,
                text(one.after) or NONE,
                sign if known else "",
                text(one.told),
            )
        )
    first, second = found.names
    heads = ("artifact", "figure", text(first), text(second), "", "what is known")
    return table(heads, lines, caption="Every figure of both bundles")


def _plots(first: View, second: View) -> str:
    """Distributions of both in one picture, where they were measured on one kind of machine."""
    pairs = [(first.path, one) for one in first.samples] + [
        (second.path, one) for one in second.samples
    ]
    if not pairs:
        return ""
    same = same_machine(pairs[0][1].machine, pairs[-1][1].machine)
    named = [one.model_copy(update={"artifact": f"{one.artifact}, {path}"}) for path, one in pairs]
    marks = marks_of(one.artifact for one in sorted(named, key=lambda one: one.artifact))
    groups = [named] if same else [named[: len(first.samples)], named[len(first.samples) :]]
    plots = []
    for group in groups:
        ordered = sorted(group, key=lambda one: list(marks).index(one.artifact))
        where = "" if same else f" on {ordered[0].machine.cpu}" if ordered else ""
        if ordered:
            plots += [
                figure(f"Distributions{where}", distributions(ordered, marks)),
                figure(
                    f"Percentiles{where}",
                    percentiles(ordered, marks),
                    legend=legend(marks, [one.artifact for one in ordered]),
                ),
            ]
    return columns(plots)


def _beside(first: View, second: View, told: object) -> str:
    assert callable(told)
    halves = [
        f'<div class="half"><h3>{text(view.path)}</h3>{told(view) or "<p>-</p>"}</div>'
        for view in (first, second)
    ]
    return f'<div class="figures">{"".join(halves)}</div>'


def _passes(view: View) -> str:
    manifest = view.manifest
    named = f"recipe {(manifest.recipe or {}).get('name', 'none')}"
    return texts([named, *(summary_of(record) for record in manifest.passes)])


def _verified(view: View) -> str:
    lines = [
        line(
            text(row.artifact.id),
            _passed(row),
            _figure(row, "sqnr_db", ".1f", min),
            _figure(row, "max_abs", ".3g", max),
        )
        for row in view.rows
    ]
    heads = ("artifact", "verification", "#SQNR dB", "#max abs")
    return table(heads, lines, caption=f"Verification of {view.path}")


def _figure(row: Row, name: str, form: str, worst: object) -> str:
    found = list(row.verification.outputs.values()) if row.verification else []
    assert callable(worst)
    return format(worst(getattr(one, name) for one in found), form) if found else NONE


def _origin(view: View) -> str:
    manifest = view.manifest
    measured = view.samples[0] if view.samples else None
    return facts(
        [
            ("model", manifest.source or manifest.name),
            ("built", manifest.created),
            ("built on", machine_text(manifest.machine)),
            ("measured", measured.started if measured else "not measured"),
            ("measured on", machine_text(measured.machine) if measured else ""),
            ("versions", ", ".join(f"{name} {one}" for name, one in manifest.versions.items())),
        ]
    )


def _row(view: View, name: str) -> Row | None:
    return next((row for row in view.rows if row.artifact.id == name), None)


def _samples(view: View, name: str) -> Samples | None:
    return next((one for one in view.samples if one.artifact == name), None)


def _median(samples: Samples) -> float:
    ordered = sorted(samples.latencies_ns)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2e6
