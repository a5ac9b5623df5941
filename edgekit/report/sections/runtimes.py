"""What each runtime gets: the uncompressed artifact beside the selected one, and why."""

from __future__ import annotations

from edgekit.profile.stats import Comparison, Summary
from edgekit.report.markup import NONE, line, section, table, text
from edgekit.report.table import Row, size_text
from edgekit.report.view import View

__all__ = ["runtimes", "score_text", "speed_text", "time_text"]


def runtimes(view: View) -> str:
    """Per runtime, before and after."""
    manifest = view.manifest
    lines = []
    for decision in manifest.decisions:
        before = view.row(manifest.of(decision)[0].id)
        after = view.row(decision.selected)
        lines.append(
            line(
                f"<b>{text(decision.runtime)}</b> {text(decision.target or '')}",
                text(after.artifact.id),
                _both(score_text(before), score_text(after)),
                _both(size_text(before.artifact.size), size_text(after.artifact.size)),
                *(
                    _both(time_text(before.latency, p), time_text(after.latency, p))
                    for p in ("p50", "p90", "p99")
                ),
                speed_text(after.speedup),
                text(decision.reason),
            )
        )
    heads = (
        "runtime", "selected", f"#{text(view.metric)}", "#size", "#p50 ms", "#p90 ms", "#p99 ms",
        "#speed-up", "why",
    )  # fmt: skip
    told = table(heads, lines, caption="The uncompressed and the selected artifact of each runtime")
    lead = "Small and struck through: the uncompressed model on the same runtime."
    return section("runtimes", "What each runtime gets", told, lead=lead)


def score_text(row: Row) -> str:
    """The workload's metric of an artifact."""
    return NONE if row.score is None else f"{row.score:.4f}"


def time_text(summary: Summary | None, name: str) -> str:
    """A percentile in milliseconds; ``~`` where it is a rough one."""
    if summary is None:
        return NONE
    rough = "~" if name == "p99" and not summary.p99_supported else ""
    return f"{rough}{getattr(summary, name):.3f}"


def speed_text(comparison: Comparison | None) -> str:
    """A ratio with its interval, as HTML."""
    if comparison is None:
        return NONE
    low, high = comparison.low, comparison.high
    return f"{comparison.ratio:.2f}x <small>[{low:.2f}, {high:.2f}]</small>"


def _both(before: str, after: str) -> str:
    return after if before == after else f'<s class="before">{before}</s> {after}'
