"""What is given for what: accuracy against latency, and sizes."""

from __future__ import annotations

from edgekit.report.marks import legend
from edgekit.report.markup import columns, figure, missing, section
from edgekit.report.plots.tradeoff import Bar, Point, bars, front, pareto
from edgekit.report.table import size_text
from edgekit.report.view import View

__all__ = ["points_of", "tradeoff"]


def tradeoff(view: View) -> str:
    """Accuracy against latency with its Pareto front, and the size of each artifact."""
    size = figure(
        "Size",
        bars(
            [
                Bar(
                    row.artifact.id,
                    row.artifact.size / 1e6,
                    size_text(row.artifact.size),
                    strong=row.status == "selected",
                )
                for row in view.rows
            ],
            view.marks,
            label="MB on disk; full colour: selected",
            told="Size",
        ),
    )
    return section("tradeoff", "Accuracy against latency", columns([_pareto(view), size]))


def points_of(view: View) -> tuple[str, bool, list[Point]]:
    """Name of the score, whether more of it is better, and every artifact that has one and a time.

    Without a metric it is the signal-to-noise ratio against the original, in dB.
    """
    accuracy = view.manifest.accuracy
    points = []
    for row in view.rows:
        score = row.score
        if accuracy is None and row.verification is not None and row.verification.outputs:
            score = min(one.sqnr_db for one in row.verification.outputs.values())
            score = min(score, 160.0)  # an exact match has no end
        if row.latency is not None and score is not None:
            chosen = row.status == "selected"
            points.append(Point(row.artifact.id, row.latency.p50, score, chosen))
    if accuracy is None:
        return "SQNR in dB", True, points
    return view.metric, accuracy.higher_is_better, points


def _pareto(view: View) -> str:
    metric, higher, points = points_of(view)
    if not points:
        return figure("Accuracy against latency", missing("Latency or accuracy", view.measure))
    accuracy = view.manifest.accuracy
    floor = None
    if accuracy is not None:
        drop = accuracy.max_drop if accuracy.higher_is_better else -accuracy.max_drop
        floor = accuracy.reference - drop
    best = ", ".join(point.artifact for point in front(points, higher=higher))
    return figure(
        f"{metric[0].upper()}{metric[1:]} against latency",
        pareto(points, view.marks, metric=metric, higher=higher, floor=floor),
        legend=legend(view.marks, [point.artifact for point in points]),
        note=f"Ringed: selected for its runtime. On the front, so that nothing is both faster and "
        f"better: {best}.",
    )
