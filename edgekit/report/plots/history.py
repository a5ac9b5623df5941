"""Latency from profile to profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.report.marks import Mark
from edgekit.report.svg import Plot, Scale, spread

__all__ = ["Curve", "history_lines"]

#: Points of one artifact: which profile, then p50 and its interval in milliseconds.
Curve = Sequence[tuple[int, float, float, float]]


def history_lines(
    curves: Mapping[str, Curve],
    marks: Mapping[str, Mark],
    dates: Sequence[str],
    events: Sequence[int],
) -> str:
    """A line an artifact with its interval as a band; a vertical line where something changed.

    Args:
        curves: at least one point in each.
        marks: of the artifacts.
        dates: of all profiles, the oldest first.
        events: before which of them something changed, in order; numbered from 1.
    """
    values = [value for curve in curves.values() for _, *three in curve for value in three]
    last = max(len(dates) - 1, 1)
    plot = Plot(Scale(-0.3, last + 0.3), spread(values, log=True), left=52, height=300, top=26)
    step = max(1, -(-len(dates) // 5))
    ticks = [(float(index), dates[index][:10]) for index in range(0, len(dates), step)]
    plot.axes("profile", "p50 in ms (log scale)", x_ticks=ticks)
    for number, index in enumerate(events, 1):
        at = plot.x(index - 0.5)
        plot.add(f'<path class="change" d="M{at:.1f} {plot.y.stop:.1f}V{plot.y.start:.1f}"/>')
        plot.text(at, plot.y.stop - 6, str(number), anchor="middle", kind="label")
    for name, curve in curves.items():
        mark = marks[name]
        plot.band([(index, low, high) for index, _, low, high in curve], mark)
        plot.line([(index, p50) for index, p50, _, _ in curve], mark)
        for index, p50, low, high in curve:
            told = f"{name}, {dates[index]}: {p50:.3f} ms ({low:.3f} to {high:.3f})"
            plot.dot(index, p50, mark, told=told)
    told = "; ".join(
        f"{name} {curve[0][1]:.3f} ms at first, {curve[-1][1]:.3f} ms at last"
        for name, curve in curves.items()
    )
    return plot.svg(f"Latency from profile to profile: {told}")
