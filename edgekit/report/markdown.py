"""``report.md``: a verdict, one table and the findings, for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from edgekit.report.document import ComparisonDocument
from edgekit.report.figures import interval, interval_text
from edgekit.report.findings import grouped
from edgekit.report.plots.roofline import name_of
from edgekit.report.sections.origin import commands, machine_text
from edgekit.report.settings import outcome_text, settings_text
from edgekit.report.table import Row, extremes_text, size_text
from edgekit.report.verdict import verdict_of
from edgekit.report.view import View

__all__ = ["comparison_markdown", "escape", "folded", "grid", "markdown"]

_SIGNS = {"selected": "✅", "rejected": "❌", "smaller": "⭕", "baseline": ""}


def markdown(view: View) -> str:
    """GitHub's Markdown, details folded."""
    found = verdict_of(view)
    parts = [
        f"## edgekit: {escape(view.manifest.name)}",
        f"**{escape(found.sentence)}**",
        _artifacts(view),
        _where(view),
        *_findings(view),
        *_details(view),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_markdown(found: ComparisonDocument) -> str:
    """What changed from one bundle to another; figures that did not are folded."""
    signs = {"better": "▲ better", "worse": "▼ **worse**", "same": "=", "unknown": "?"}
    lines: dict[bool, list[list[str]]] = {True: [], False: []}
    for one in found.changes:
        cells = [one.artifact, one.what, one.before or "-", one.after or "-"]
        shown = [*map(escape, cells), signs[one.verdict], escape(one.told)]
        lines[one.verdict in {"better", "worse"}].append(shown)
    names = [escape(name) for name in found.names]
    heads = ("artifact", "figure", *names, "", "what is known")
    changed = grid(heads, lines[True]) if lines[True] else "No figure changed."
    parts = [
        f"## edgekit: {names[0]} → {names[1]}",
        f"**{escape(found.sentence)}**",
        "\n".join(f"- {escape(note)}" for note in found.notes),
        changed,
        folded("What did not change, or cannot be told", grid(heads, lines[False])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Plain text that Markdown and HTML leave alone, in one line."""
    joined = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#~&@])", r"\\\1", joined).replace("\\@", "@\u200b")


def grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; a heading that begins with ``#`` is of a column of figures. Cells are Markdown."""
    rule = ["---:" if head.startswith("#") else "---" for head in heads]
    rows = [[head.removeprefix("#") for head in heads], rule, *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def folded(title: str, body: str) -> str:
    """A part that is closed at first. GitHub wants the empty lines."""
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _artifacts(view: View) -> str:
    heads = (
        "", "artifact", f"#{escape(view.metric)}", "#size", "#p50 ms", "#p99 ms", "#against fp32",
        "verified",
    )  # fmt: skip
    return grid(heads, [_line(view, row) for row in view.rows])


def _line(view: View, row: Row) -> list[str]:
    latency, speed, record = row.latency, row.speedup, row.verification
    own = next((one for one in view.samples if one.artifact == row.artifact.id), None)
    p50 = p99 = "-"
    if latency is not None and own is not None:
        low, high = interval(own)
        p50 = f"{latency.p50:.3f} {escape(interval_text(low, high))}"
        p99 = f"{'' if latency.p99_supported else '~'}{latency.p99:.3f}"
    verified = "-"
    if record is not None:
        verified = ("yes" if record.passed else "**no**") if record.ran else "not run here"
    bold = "**" if row.status == "selected" else ""
    return [
        _SIGNS.get(row.status, ""),
        f"{bold}{escape(row.artifact.id)}{bold}",
        "-" if row.score is None else f"{row.score:.4f}",
        size_text(row.artifact.size),
        p50,
        p99.replace("~", "\\~"),
        "-" if speed is None else f"{speed.ratio:.2f}x ({speed.low:.2f} to {speed.high:.2f})",
        verified,
    ]


def _where(view: View) -> str:
    if not view.samples:
        return f"Latency: not measured. Run `{view.measure}`"
    first = view.samples[0]
    count = f"{len(first.latencies_ns)} samples an artifact"
    return (
        f"<sub>{escape(first.call)}, {escape(first.scenario)}, {first.threads or 'all'} threads, "
        f"{count}, 95 % intervals in brackets. {escape(machine_text(first.machine))}.</sub>"
    )


def _findings(view: View) -> Iterator[str]:
    if view.profile is None:
        yield f"Diagnosis: not measured. Run `{view.measure}`"
        return
    lines = []
    for finding, names in grouped(view.findings):
        about = f" ({escape(', '.join(names))})" if names else ""
        lines.append(
            f"- **{escape(finding.kind)}**{about}: {escape(finding.sentence)} "
            f"*{escape(finding.advice)}.*"
        )
    if lines:
        yield "### Findings\n\n" + "\n".join(lines)


def _details(view: View) -> Iterator[str]:
    results = view.profile.results if view.profile else ()
    others = [one for one in results if one.outcome is not None]
    if others:
        lines = [
            [
                escape(one.samples.artifact),
                escape(one.samples.scenario),
                escape(settings_text(one)),
                escape(outcome_text(one.outcome)) if one.outcome else "",
                "yes" if one.outcome and one.outcome.valid else "**no**",
            ]
            for one in others
        ]
        body = grid(("artifact", "scenario", "setting", "result", "valid"), lines)
        yield folded("Scenarios", body)
    yield from _slowest(view)
    reasons = [
        [escape(row.artifact.id), row.status, escape(_told(row))] for row in view.rows if _told(row)
    ]
    if reasons:
        yield folded("Why each artifact was chosen or not", grid(("artifact", "", "why"), reasons))
    yield folded("How to reproduce", "```sh\n" + "\n".join(commands(view)) + "\n```")


def _told(row: Row) -> str:
    extremes = extremes_text(row.verification) if row.verification else ""
    return ". ".join(filter(None, (row.reason, extremes)))


def _slowest(view: View) -> Iterator[str]:
    ship = verdict_of(view).ship
    results = view.profile.results if view.profile else ()
    timed = [one for one in results if one.layers is not None and one.samples.artifact == ship]
    if not timed or timed[0].layers is None:
        return
    times = timed[0].layers.layers
    whole = sum(layer.ns for layer in times) or 1.0
    lines = [
        [
            escape(name_of(layer)),
            escape(layer.op),
            escape(layer.precision or "-"),
            f"{layer.ns / 1e3:.1f}",
            f"{layer.ns / whole:.1%}",
        ]
        for layer in sorted(times, key=lambda one: -one.ns)[:10]
    ]
    heads = ("layer", "operator", "precision", "#µs", "#share")
    yield folded(f"Slowest layers of {escape(ship)}", grid(heads, lines))
