"""What compressing did: each pass before and after, the search, the calibration, the recipe."""

from __future__ import annotations

import yaml

from edgekit.manifest import PassRecord
from edgekit.report.markup import NONE, folded, line, section, table, text, texts
from edgekit.report.passes import summary_of
from edgekit.report.plots.cells import pair
from edgekit.report.search import TrialRow, search_rows
from edgekit.report.view import View

__all__ = ["calibration", "passes", "recipe", "search"]

#: How many of the operators that a trial left float are named; the rest are counted.
_NAMED = 3


def passes(view: View) -> str:
    """What each pass did to the PyTorch module; nothing when no pass changes modules."""
    records = view.manifest.passes
    if not records:
        return ""
    heads = (
        "pass",
        "#changed",
        "",
        "#million MACs",
        "",
        "#million parameters",
        f"#{text(view.metric)}",
        "#took",
    )
    whole = table(heads, [_summary(one) for one in records], caption="Each pass, before and after")
    parts = "".join(_layers(record) for record in records)
    lead = "MACs and parameters are proxies for time and size; what came of them is measured above."
    return section("passes", "What the passes did", whole, parts, lead=lead)


def _summary(record: PassRecord) -> str:
    return line(
        text(record.name),
        f"{record.changed} of {record.total}",
        pair(*record.macs),
        _change(*record.macs),
        pair(*record.parameters),
        _change(*record.parameters),
        NONE if record.score is None else f"{record.score:.4f}",
        f"{record.seconds:.0f} s",
    )


def _change(before: int, after: int) -> str:
    now = f"{after / 1e6:.4g}"
    return now if before == after else f'<s class="before">{before / 1e6:.4g}</s> {now}'


def _layers(record: PassRecord) -> str:
    lines = [
        line(
            text(change.where),
            text(change.before),
            text(change.after if change.kept else f"not {change.after}"),
            "" if change.kept else "undone or left",
            text(change.why),
        )
        for change in record.changes
    ]
    score = "" if record.score is None else f" The module then scores {record.score:.4f}."
    told = f"<p>{text(summary_of(record))}, in {record.seconds:.0f} s.{score}</p>"
    heads = ("module", "before", "after", "", "why")
    listed = table(heads, lines, caption=f"Layers of {record.name}") if lines else ""
    more = folded(f"{len(lines)} layers", listed) if lines else ""
    return f"<h3>{text(record.name)}</h3>{told}{texts(record.details)}{more}"


def search(view: View) -> str:
    """What was tried to find the operators that stay float; nothing when there was no search."""
    found = search_rows(view.manifest)
    if not found:
        return ""
    lines = [
        line(
            text(row.engine),
            text(row.kind),
            _operators(row),
            NONE if row.score is None else f"{row.score:.4f}",
            NONE if row.speedup is None else f"{row.speedup:.2f}x",
            "&#9733;" if row.pareto else "",
            text(row.note),
        )
        for row in found
    ]
    heads = (
        "engine",
        "kind",
        "left float",
        f"#{text(view.metric)}",
        "#against all int8",
        "Pareto",
        "note",
    )
    lead = (
        "Star: measured, and no other choice for that engine is better in both the metric and the "
        "speed."
    )
    return section("search", "Search", table(heads, lines, caption="Trials"), lead=lead)


def _operators(row: TrialRow) -> str:
    """How many operators stayed float, and the first names."""
    count = len(row.keep_float)
    more = ", ..." if count > _NAMED else ""
    names = text(", ".join(row.keep_float[:_NAMED]))
    return f"{count} <small>{names}{more}</small>" if count else "0"


def calibration(view: View) -> str:
    """Where the int8 ranges come from."""
    found = view.manifest.calibration
    if not found:
        told = "<p>No calibration: nothing was quantized from data.</p>"
        return section("calibration", "Calibration", told)
    lines = [
        line(text(name), f"{entry['low']:.5g}", f"{entry['high']:.5g}")
        for name, entry in found["ranges"].items()
    ]
    cached = found.get("cached")  # absent in older bundles
    origin = "" if cached is None else ", from the cache" if cached else ", made for this bundle"
    told = (
        f"<p>Observer {text(found['observer'])}, {int(found['samples'])} samples, "
        f"{len(lines)} tensors{origin}.</p>"
    )
    ranges = table(("tensor", "#low", "#high"), lines, caption="Ranges of tensors")
    return section("calibration", "Calibration", told, folded("Ranges", ranges))


def recipe(view: View) -> str:
    """The recipe as it was given."""
    written = text(yaml.safe_dump(view.manifest.recipe, sort_keys=False))
    return f'<h3>Recipe</h3><pre tabindex="0">{written}</pre>'
