"""``report.html``: one file, no scripts, no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template

import yaml

from edgekit.manifest import Manifest
from edgekit.profile.stats import Comparison, Summary, least_samples
from edgekit.report.layers import LayerComparison, layers_section
from edgekit.report.passes import summary_of
from edgekit.report.search import TrialRow, search_rows
from edgekit.report.table import Row, extremes_text, rows, size_text, validated_on

__all__ = ["render"]

#: What stands in a cell that has no figure.
_NONE = "-"

#: How many of the operators that a trial left float are named; the rest are counted.
_NAMED = 3


def render(manifest: Manifest, layers: Sequence[LayerComparison] = ()) -> str:
    """The page. Everything that comes from the bundle is escaped."""
    table = rows(manifest)
    machine = manifest.machine
    features = ", ".join(machine.features)
    template = Template((files("edgekit.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=html.escape(manifest.name),
        facts=_facts(
            [
                ("model", manifest.source or manifest.name),
                ("built", manifest.created),
                ("machine", f"{machine.cpu}, {machine.cores} cores, {features}"),
                *([("target", validated_on(manifest)[1])] if manifest.target else []),
                ("system", f"{machine.system}, Python {machine.python}"),
                ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
            ]
        ),
        verdict=_verdict(manifest, table),
        artifacts=_artifacts(manifest, table),
        layers=layers_section(layers),
        plots=_plots(manifest, table),
        notes="".join(f"<li>{html.escape(note)}</li>" for note in _notes(manifest, table)),
        passes=_passes(manifest),
        search=_search(manifest),
        calibration=_calibration(manifest),
        recipe=html.escape(yaml.safe_dump(manifest.recipe, sort_keys=False)),
    )


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in pairs)


def _verdict(manifest: Manifest, table: Sequence[Row]) -> str:
    """Per runtime, before and after: the uncompressed artifact and the selected one."""
    lines = []
    for decision in manifest.decisions:
        original = manifest.of(decision)[0].id
        before = next(row for row in table if row.artifact.id == original)
        after = next(row for row in table if row.artifact.id == decision.selected)
        lines.append(
            _line(
                f"<b>{html.escape(decision.runtime)}</b> {html.escape(decision.target or '')}",
                html.escape(after.artifact.id),
                _both(_score(before), _score(after)),
                _both(size_text(before.artifact.size), size_text(after.artifact.size)),
                *(
                    _both(_time(before.latency, p), _time(after.latency, p))
                    for p in ("p50", "p90", "p99")
                ),
                _speedup(after.speedup),
                html.escape(decision.reason),
            )
        )
    metric = html.escape(manifest.accuracy.metric if manifest.accuracy else "metric")
    heads = ("runtime", "selected", metric, "size", "p50 ms", "p90 ms", "p99 ms", "speed-up", "why")
    return _table(heads, lines)


def _artifacts(manifest: Manifest, table: Sequence[Row]) -> str:
    """Every artifact with its fidelity to the original."""
    lines = []
    for row in table:
        record = row.verification
        outputs = list(record.outputs.items()) if record else []
        ran = record is not None and record.ran
        fidelity = [
            "<br>".join(html.escape(name) for name, _ in outputs),
            "<br>".join(f"{f.max_abs:.3g}" for _, f in outputs),
            "<br>".join(f"{f.sqnr_db:.1f}" for _, f in outputs),
            "<br>".join(f"{f.cosine:.5f}" for _, f in outputs),
            "<br>".join(_share(f.argmax_agreement) for _, f in outputs),
        ]
        status = row.status if ran else f"{row.status}, built, not run here"
        lines.append(
            _line(
                html.escape(row.artifact.id),
                html.escape(status),
                size_text(row.artifact.size),
                _score(row),
                *fidelity,
                _time(row.latency, "p50"),
                _speedup(row.speedup_plain),
                html.escape(
                    ". ".join(filter(None, (row.reason, extremes_text(record) if record else "")))
                ),
            )
        )
    metric = html.escape(manifest.accuracy.metric if manifest.accuracy else "metric")
    heads = (
        "artifact", "status", "size", metric, "output", "max abs", "SQNR dB", "cosine",
        "argmax same", "p50 ms", "against plain ONNX Runtime fp32", "reason",
    )  # fmt: skip
    return _table(heads, lines)


def _plots(manifest: Manifest, table: Sequence[Row]) -> str:
    from edgekit.report import plots  # the plotting library is optional

    parts = []
    if manifest.latency:
        parts += [
            ("Latency distribution", plots.latency_distribution(manifest.latency)),
            ("Latency over time", plots.latency_over_time(manifest.latency)),
        ]
    parts.append(("Size", plots.sizes(table)))
    return "".join(
        f"<figure><figcaption>{title}</figcaption>{svg}</figure>" for title, svg in parts
    )


def _notes(manifest: Manifest, table: Sequence[Row]) -> list[str]:
    notes = list(manifest.notes)
    if manifest.accuracy:
        notes.append(
            f"The original model's {manifest.accuracy.metric} is {manifest.accuracy.reference:.4f}."
        )
    if manifest.latency:
        first = manifest.latency[0]
        notes.append(
            f"Latency of {html.escape(first.call)}: {first.scenario}, {first.threads} threads, "
            f"{len(first.latencies_ns)} samples an artifact, all interleaved in one run of "
            f"{first.started}, after {first.warmup} warm-up inferences each. The brackets "
            "are 95 % bootstrap intervals of the ratio of medians."
        )
    if any(row.latency and not row.latency.p99_supported for row in table):
        notes.append(f"~ p99 from fewer than {least_samples(0.99)} samples: a rough value.")
    if any(row.verification and not row.verification.ran for row in table):
        notes.append("Artifacts that were built, not run here, have no measured figures.")
    return notes


def _passes(manifest: Manifest) -> str:
    """What each pass did to the PyTorch module; nothing when no pass changes modules."""
    parts = []
    for record in manifest.passes:
        lines = [
            _line(
                html.escape(change.where),
                html.escape(change.before),
                html.escape(change.after if change.kept else f"not {change.after}"),
                "" if change.kept else "undone or left",
                html.escape(change.why),
            )
            for change in record.changes
        ]
        score = "" if record.score is None else f" The module then scores {record.score:.4f}."
        details = "".join(f"<li>{html.escape(detail)}</li>" for detail in record.details)
        table = _table(("module", "before", "after", "", "why"), lines) if lines else ""
        parts.append(
            f"<h3>{html.escape(record.name)}</h3><p>{html.escape(summary_of(record))}, in "
            f"{record.seconds:.0f} s.{score}</p><ul>{details}</ul>"
            + (f"<details><summary>{len(lines)} layers</summary>{table}</details>" if lines else "")
        )
    return "<h2>What the passes did</h2>" + "".join(parts) if parts else ""


def _search(manifest: Manifest) -> str:
    """What was tried to find the operators that stay float; nothing when there was no search."""
    found = search_rows(manifest)
    if not found:
        return ""
    metric = html.escape(manifest.accuracy.metric if manifest.accuracy else "metric")
    lines = [
        _line(
            html.escape(row.engine),
            html.escape(row.kind),
            _operators(row),
            _NONE if row.score is None else f"{row.score:.4f}",
            _NONE if row.speedup is None else f"{row.speedup:.2f}x",
            "&#9733;" if row.pareto else "",
            html.escape(row.note),
        )
        for row in found
    ]
    heads = ("engine", "kind", "left float", metric, "against all int8", "Pareto", "note")
    return (
        "<h2>Search</h2><p><small>Star: measured, and no other choice for that engine is better "
        "in both the metric and the speed.</small></p>" + _table(heads, lines)
    )


def _operators(row: TrialRow) -> str:
    """How many operators stayed float, and the first names."""
    count = len(row.keep_float)
    more = ", ..." if count > _NAMED else ""
    names = html.escape(", ".join(row.keep_float[:_NAMED]))
    return f"{count} <small>{names}{more}</small>" if count else "0"


def _calibration(manifest: Manifest) -> str:
    found = manifest.calibration
    if not found:
        return "<p>No calibration: nothing was quantized from data.</p>"
    lines = [
        _line(html.escape(name), f"{entry['low']:.5g}", f"{entry['high']:.5g}")
        for name, entry in found["ranges"].items()
    ]
    cached = found.get("cached")  # absent in older bundles
    origin = "" if cached is None else ", from the cache" if cached else ", made for this bundle"
    return (
        f"<p>Observer {html.escape(found['observer'])}, {int(found['samples'])} samples, "
        f"{len(lines)} tensors{origin}.</p><details><summary>Ranges</summary>"
        + _table(("tensor", "low", "high"), lines)
        + "</details>"
    )


def _table(heads: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(lines)
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{table}</table></div>'


def _line(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _both(before: str, after: str) -> str:
    return after if before == after else f'<span class="before">{before}</span> {after}'


def _score(row: Row) -> str:
    return _NONE if row.score is None else f"{row.score:.4f}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _time(summary: Summary | None, name: str) -> str:
    if summary is None:
        return _NONE
    rough = "~" if name == "p99" and not summary.p99_supported else ""
    return f"{rough}{getattr(summary, name):.3f}"


def _speedup(comparison: Comparison | None) -> str:
    if comparison is None:
        return _NONE
    low, high = comparison.low, comparison.high
    return f"{comparison.ratio:.2f}x <small>[{low:.2f}, {high:.2f}]</small>"
