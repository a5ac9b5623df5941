"""What is given for what: accuracy against latency, and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.report.marks import Mark
from edgekit.report.svg import Plot, Scale, spread

__all__ = ["Bar", "Point", "bars", "front", "pareto"]


@dataclass(frozen=True, slots=True)
class Point:
    """An artifact in the plane of latency (ms) and a score."""

    artifact: str
    ms: float
    score: float
    selected: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A length with its name.

    Attributes:
        value: how long it is.
        shown: the figure at its end.
        extra: a lighter part after it.
        strong: whether it is the one to look at.
    """

    artifact: str
    value: float
    shown: str
    extra: float = 0.0
    strong: bool = False


def front(points: Sequence[Point], *, higher: bool) -> list[Point]:
    """Those that no other one beats in both, the fastest first."""
    sign = 1.0 if higher else -1.0
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one.ms, -sign * one.score)):
        if not kept or sign * point.score > sign * kept[-1].score:
            kept.append(point)
    return kept


def pareto(
    points: Sequence[Point],
    marks: Mapping[str, Mark],
    *,
    metric: str,
    higher: bool,
    floor: float | None = None,
) -> str:
    """Score over latency, the front as steps, the accuracy budget as a line.

    Args:
        points: at least one.
        marks: of the artifacts.
        metric: name of the score.
        higher: whether a higher score is better.
        floor: the worst score that the budget allows.
    """
    scores = [point.score for point in points] + ([floor] if floor is not None else [])
    y = spread(scores)
    x = spread([point.ms for point in points], log=True)
    plot = Plot(x, y if higher else Scale(y.high, y.low), left=62)
    plot.axes("p50 latency in ms (log scale; left is faster)", metric)
    if floor is not None:
        at = plot.y(floor)
        plot.add(f'<path class="limit" d="M{plot.x.start:.1f} {at:.1f}H{plot.x.stop:.1f}"/>')
        plot.text(plot.x.stop, at - 5, "accuracy budget", anchor="end", kind="label")
    best = front(points, higher=higher)
    steps = [(best[0].ms, best[0].score)]
    for point in best[1:]:
        steps += [(point.ms, steps[-1][1]), (point.ms, point.score)]
    plot.plain([*steps, (plot.x.high, steps[-1][1])], "front")
    for point in points:
        told = f"{point.artifact}: {metric} {point.score:.4f}, p50 {point.ms:.3f} ms"
        if point.selected:
            plot.add(
                f'<circle class="ring" cx="{plot.x(point.ms):.1f}" cy="{plot.y(point.score):.1f}" '
                'r="10"/>'
            )
        plot.dot(point.ms, point.score, marks[point.artifact], told=told, size=1.25)
    listed = "; ".join(f"{p.artifact}: {p.score:.4f} at {p.ms:.3f} ms" for p in points)
    return plot.svg(
        f"{metric} against latency. {listed}. On the front: {', '.join(p.artifact for p in best)}"
    )


def bars(entries: Sequence[Bar], marks: Mapping[str, Mark], *, label: str, told: str) -> str:
    """Horizontal bars with names above them: as readable on a phone as on a desk."""
    row = 41
    longest = max(entry.value + entry.extra for entry in entries) or 1.0
    plot = Plot(
        Scale(0, longest * 1.28),
        Scale(0, 1),
        height=34 + row * len(entries),
        left=8,
        top=4,
        bottom=30,
    )
    for index, entry in enumerate(entries):
        y = plot.top + row * index + 20
        mark = marks[entry.artifact]
        end = plot.x(entry.value)
        plot.text(
            plot.x.start, y - 5, entry.artifact, kind="name strong" if entry.strong else "name"
        )
        plot.add(
            f'<rect class="fill {mark.colour}{"" if entry.strong else " weak"}" '
            f'x="{plot.x.start:.1f}" '
            f'y="{y:.1f}" width="{max(end - plot.x.start, 1):.1f}" height="12" rx="2"/>'
        )
        if entry.extra:
            last = plot.x(entry.value + entry.extra)
            plot.add(
                f'<rect class="more {mark.colour}" x="{end:.1f}" y="{y + 0.5:.1f}" '
                f'width="{last - end:.1f}" height="11" rx="2"/>'
            )
            end = last
        plot.text(end + 6, y + 10.5, entry.shown, kind="figure")
    plot.text(plot.x.start, plot.height - 10, label, kind="label")
    listed = "; ".join(f"{entry.artifact} {entry.shown}" for entry in entries)
    return plot.svg(f"{told}: {listed}")
