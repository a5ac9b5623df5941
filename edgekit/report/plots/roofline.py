"""Layers under the machine's measured roof."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.profile.records import LayerTime, Peaks
from edgekit.report.marks import Mark
from edgekit.report.svg import Plot, Scale, nice

__all__ = ["name_of", "roofline", "time_by_operator"]


def roofline(layers: Sequence[LayerTime], peaks: Peaks, mark: Mark) -> str:
    """Operations a second over operations for each byte, a point a layer, as large as its time.

    A layer under the slope waits for memory, one under the flat part for arithmetic. The roof is
    what was measured on this machine, one for each precision.

    Source: Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009.

    Args:
        layers: those with ``flops``, ``bytes`` and a time are drawn; at least one has them.
        peaks: of the machine.
        mark: of the artifact.
    """
    known = [
        (layer, layer.flops / layer.bytes, layer.flops / layer.ns)
        for layer in layers
        if layer.flops and layer.bytes and layer.ns > 0
    ]
    roofs = {name: peak / 1e9 for name, peak in peaks.flops.items()}
    bandwidth = peaks.bytes_per_s / 1e9
    ridges = [roof / bandwidth for roof in roofs.values()]
    xs = [x for _, x, _ in known] + [max(ridges) * 2, min(ridges) / 4]
    ys = [y for _, _, y in known] + [max(roofs.values()) * 1.5]
    x = Scale(min(xs) / 1.4, max(xs) * 1.4, log=True)
    lowest = min([*ys, max(ys) / 100])
    plot = Plot(x, Scale(lowest / 1.4, max(ys) * 1.2, log=True), left=60)
    plot.axes("operations per byte (log)", "G operations/s (log)")
    for name, roof in sorted(roofs.items(), key=lambda one: one[1]):
        ridge = roof / bandwidth
        start = max(plot.x.low, plot.y.low / bandwidth)
        plot.plain([(start, start * bandwidth), (ridge, roof), (plot.x.high, roof)], "roof")
        plot.text(
            plot.x.stop, plot.y(roof) - 5, f"{name} {nice(round(roof))}", anchor="end", kind="label"
        )
    near = math.sqrt(max(plot.x.low, plot.y.low / bandwidth) * min(ridges))
    plot.text(
        plot.x(near) - 6,
        plot.y(near * bandwidth),
        f"memory {bandwidth:.3g} GB/s",
        anchor="end",
        kind="label",
    )
    whole = sum(layer.ns for layer, _, _ in known)
    for layer, intensity, rate in sorted(known, key=lambda one: -one[0].ns):
        share = layer.ns / whole
        told = (
            f"{name_of(layer)} ({layer.op} {layer.precision}): {layer.ns / 1e3:.1f} µs, {rate:.3g} "
            f"G operations/s at {intensity:.3g} a byte"
        )
        plot.dot(intensity, rate, mark, told=told, size=0.6 + 2.2 * math.sqrt(share))
    reached = sum(layer.flops or 0 for layer, _, _ in known) / whole
    return plot.svg(
        f"Roofline of {len(known)} layers: together {reached:.3g} G operations/s under roofs of "
        + ", ".join(f"{name} {roof:.3g}" for name, roof in roofs.items())
        + f" and {bandwidth:.3g} GB/s; figures in the table"
    )


def time_by_operator(layers: Sequence[LayerTime], mark: Mark, most: int = 7) -> str:
    """Bars: the time of all layers of an operator type and precision together."""
    times: dict[str, float] = {}
    for layer in layers:
        name = " ".join(filter(None, (layer.op, layer.precision)))
        times[name] = times.get(name, 0.0) + layer.ns
    ranked = sorted(times.items(), key=lambda one: -one[1])
    if len(ranked) > most:
        ranked = [*ranked[: most - 1], ("all others", sum(ns for _, ns in ranked[most - 1 :]))]
    whole = sum(times.values()) or 1.0
    row = 41
    plot = Plot(
        Scale(0, ranked[0][1] * 1.28),
        Scale(0, 1),
        height=14 + row * len(ranked),
        left=8,
        top=4,
        bottom=8,
    )
    for index, (name, ns) in enumerate(ranked):
        y = plot.top + row * index + 20
        plot.text(plot.x.start, y - 5, name, kind="name")
        plot.add(
            f'<rect class="fill {mark.colour}" x="{plot.x.start:.1f}" y="{y:.1f}" '
            f'width="{max(plot.x(ns) - plot.x.start, 1):.1f}" height="12" rx="2"/>'
        )
        plot.text(plot.x(ns) + 6, y + 10.5, f"{ns / 1e3:.1f} µs, {ns / whole:.0%}", kind="figure")
    return plot.svg("Time by operator: " + "; ".join(f"{n} {ns / 1e3:.1f} µs" for n, ns in ranked))


def name_of(layer: LayerTime) -> str:
    """What a person calls the layer: its PyTorch modules, else its operators in the ONNX graph."""
    return " + ".join(layer.modules or layer.onnx[:1]) or layer.node
