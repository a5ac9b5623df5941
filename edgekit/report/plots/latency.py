"""Latencies: how they are distributed, their percentiles, and how they change over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.profile.samples import Samples
from edgekit.profile.stats import least_samples, percentile
from edgekit.report.marks import Mark
from edgekit.report.markup import text
from edgekit.report.svg import Plot, Scale, spread

__all__ = ["distributions", "over_time", "percentiles"]

_BINS = 60

#: So many points of a line at most: more than a screen shows.
_POINTS = 160


def distributions(samples: Sequence[Samples], marks: Mapping[str, Mark]) -> str:
    """A histogram a row, all over one logarithmic axis, with p50, p90 and p99 marked below it."""
    values = [np.asarray(record.latencies_ns) / 1e6 for record in samples]
    low = min(float(np.min(one)) for one in values)
    high = max(percentile(one, 99.5) for one in values)
    row = 58
    plot = Plot(
        spread([low, high], log=True), Scale(0, 1), height=56 + row * len(samples), left=14, top=8
    )
    plot.axes("latency in ms (log scale)", "", y_ticks=())
    edges = np.geomspace(plot.x.low, plot.x.high, _BINS + 1)
    for index, (record, one) in enumerate(zip(samples, values, strict=True)):
        mark = marks[record.artifact]
        base = plot.y.stop + row * (index + 1) - 14
        counts = np.histogram(one, edges)[0]
        tops = base - counts / max(counts.max(), 1) * (row - 32)
        steps = "".join(
            f"V{top:.1f}H{plot.x(float(edge)):.1f}"
            for top, edge in zip(tops, edges[1:], strict=True)
        )
        plot.add(
            f'<path class="hill {mark.colour}" d="M{plot.x.start:.1f} {base:.1f}{steps}'
            f'V{base:.1f}Z"/>'
        )
        _box(plot, one, base + 6, mark)
        plot.add(
            f'<path class="fill {mark.colour}" transform="translate({plot.x.start + 6:.1f} '
            f'{base - row + 24:.1f})" d="{mark.shape}"/>'
        )
        plot.text(plot.x.start + 16, base - row + 28, record.artifact, kind="name")
    told = "; ".join(
        f"{record.artifact}: p50 {percentile(one, 50):.3f} ms, p90 {percentile(one, 90):.3f} ms, "
        f"p99 {percentile(one, 99):.3f} ms"
        for record, one in zip(samples, values, strict=True)
    )
    return plot.svg(f"Distribution of latencies. {told}")


def _box(plot: Plot, values: np.ndarray, y: float, mark: Mark) -> None:
    """A thin line from p1 to p99, a thick one between the quartiles, ticks at p50, p90, p99."""
    p1, p25, p50, p75, p90, p99 = (
        plot.x(percentile(values, share)) for share in (1, 25, 50, 75, 90, 99)
    )
    last = min(p99, plot.x.stop)
    plot.add(
        f'<g class="{mark.colour}"><path class="thin" d="M{p1:.1f} {y:.1f}H{last:.1f}'
        f'M{p90:.1f} {y - 3:.1f}V{y + 3:.1f}M{last:.1f} {y - 3:.1f}V{y + 3:.1f}"/>'
        f'<path class="thick" d="M{p25:.1f} {y:.1f}H{p75:.1f}"/>'
        f'<path class="median" d="M{p50:.1f} {y - 5:.1f}V{y + 5:.1f}"/>'
        f"<title>{text(f'p50 {percentile(values, 50):.3f} ms')}</title></g>"
    )


def percentiles(samples: Sequence[Samples], marks: Mapping[str, Mark]) -> str:
    """Latency against percentile as HDR histograms draw it: each nine takes the same width.

    A line ends where there are too few samples to bound a percentile; what lies beyond is thin.
    """
    most = max(len(record.latencies_ns) for record in samples)
    right = min(max(1 / most, 1e-6), 0.1)
    shares = [50, 90, 99, 99.9, 99.99, 99.999]
    named = [(-np.log10(1 - share / 100), f"p{share:g}") for share in shares]
    x = Scale(0.0, float(-np.log10(right)))
    curves = {}
    for record in samples:
        values = np.sort(np.asarray(record.latencies_ns)) / 1e6
        at = np.unique(np.linspace(0, -np.log10(1 / values.size), _POINTS))
        curves[record.artifact] = (at, np.percentile(values, (1 - 10**-at) * 100))
    plot = Plot(x, spread([float(v) for _, y in curves.values() for v in y], log=True), left=48)
    plot.axes(
        "percentile", "latency in ms (log)", x_ticks=[one for one in named if one[0] <= x.high]
    )
    for record in samples:
        mark, (at, y) = marks[record.artifact], curves[record.artifact]
        sure = at <= _sure(len(record.latencies_ns))
        points = [(float(a), float(b)) for a, b in zip(at, y, strict=True)]
        plot.line([point for point, kept in zip(points, sure, strict=True) if kept], mark)
        rest = [point for point, kept in zip(points, sure, strict=True) if not kept]
        if rest:
            plot.line(rest, mark, kind="faint")
        plot.dot(float(-np.log10(0.5)), percentile(record.latencies_ns, 50) / 1e6, mark)
    return plot.svg("Latency by percentile, each nine of the same width; figures in the table")


def _sure(count: int) -> float:
    """The highest percentile, as -log10(1 - share), that so many samples bound."""
    sure = 0.0
    for share in (0.5, 0.9, 0.95, 0.99, 0.999):
        if count >= least_samples(share):
            sure = float(-np.log10(1 - share))
    return sure


def over_time(samples: Sequence[Samples], marks: Mapping[str, Mark]) -> str:
    """Medians of samples in a row in the order they ran: drift and disturbance show."""
    lines = {}
    for record in samples:
        values = np.asarray(record.latencies_ns) / 1e6
        parts = np.array_split(values, max(min(values.size // max(record.block, 1), _POINTS), 1))
        medians = [float(np.median(part)) for part in parts]
        begun = np.asarray(record.starts_ns or (), dtype=float) / 1e9
        if begun.size == values.size:
            at = [float(part[0]) for part in np.array_split(begun, len(parts))]
        else:
            at = [100 * index / max(len(parts) - 1, 1) for index in range(len(parts))]
        lines[record.artifact] = list(zip(at, medians, strict=True))
    timed = any(record.starts_ns for record in samples)
    xs = [x for line in lines.values() for x, _ in line]
    scale = Scale(0.0, max(xs) or 1.0)
    plot = Plot(scale, spread([y for line in lines.values() for _, y in line], log=True), left=48)
    plot.axes("seconds of the run" if timed else "% of the run", "median in ms (log)")
    for name, line in lines.items():
        plot.line(line, marks[name], kind="fine")
        plot.dot(*line[-1], marks[name])
    first = {name: line[0][1] for name, line in lines.items()}
    told = "; ".join(
        f"{name}: {first[name]:.3f} ms at first, {line[-1][1]:.3f} ms at last"
        for name, line in lines.items()
    )
    return plot.svg(f"Latency over the run. {told}")
