"""Where an inference spends its time: layer by layer, under the measured roof of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profile.records import LayerTime, LayerTimes, Peaks, Result
from edgekit.profile.roofline import peaks_of
from edgekit.profile.roofline import roofline as rated
from edgekit.report.markup import NONE, columns, figure, folded, line, missing, section, table, text
from edgekit.report.plots.cells import share_bar
from edgekit.report.plots.roofline import name_of, roofline, time_by_operator
from edgekit.report.verdict import verdict_of
from edgekit.report.view import View

__all__ = ["layers"]

#: So many of the slowest layers are listed at once; the others are folded away.
_LISTED = 12


def layers(view: View) -> str:
    """A part for each artifact whose layers were timed."""
    found = [
        one for one in (view.profile.results if view.profile else ()) if one.layers is not None
    ]
    kept = {one.samples.artifact: one for one in reversed(found)}
    lead = ""
    if not kept:
        body = missing("Time of each layer", view.measure)
    else:
        order = [row.artifact.id for row in view.rows if row.artifact.id in kept]
        order += [name for name in kept if name not in order]
        ship = verdict_of(view).ship
        first = ship if ship in kept else order[0]
        order = [first, *(name for name in order if name != first)]
        body = "".join(_artifact(view, kept[name], opened=name == first) for name in order)
        lead = "Each operator as the engine executed it, timed by the engine's own profiler."
    return section("layers", "Where the time goes", body, lead=lead)


def _artifact(view: View, result: Result, *, opened: bool) -> str:
    times, name = result.layers, result.samples.artifact
    assert times is not None
    mark = view.marks[name]
    peaks = peaks_of(view.profile, result) if view.profile is not None else None
    figures = [figure("Time by operator and precision", time_by_operator(times.layers, mark))]
    if peaks is not None and peaks.flops and any(one.flops and one.bytes for one in times.layers):
        figures.append(
            figure(
                "Roofline",
                roofline(times.layers, peaks, mark),
                note="A point a layer, as large as its time. Under the slope memory limits it, "
                "under the flat part arithmetic does. The roof was measured with "
                f"{peaks.threads} threads.",
            )
        )
    else:
        figures.append(figure("Roofline", missing("The machine's peaks", view.measure)))
    ranked = sorted(times.layers, key=lambda one: -one.ns)
    shown = _table(ranked[:_LISTED], times, peaks, f"The slowest layers of {name}")
    rest = ""
    if len(ranked) > _LISTED:
        body = _table(times.layers, times, peaks, f"All layers of {name}, in order")
        rest = folded(f"All {len(ranked)} layers in the order of execution", body)
    return folded(
        f"<b>{text(name)}</b> {text(_accounts(times))}",
        columns(figures) + shown + rest,
        opened=opened,
    )


def _accounts(times: LayerTimes) -> str:
    """How much of an inference the layers account for."""
    inside = times.layers_ns
    told = f"{len(times.layers)} layers, {inside / 1e6:.3f} ms of {times.plain_ns / 1e6:.3f} ms"
    slower = max(times.inference_ns / times.plain_ns - 1, 0.0) if times.plain_ns else 0.0
    share = inside / times.plain_ns if times.plain_ns else 0.0
    told += f" ({share:.0%})"
    if times.call_ns:
        told += f", the call {times.call_ns / 1e6:.3f} ms"
    if times.call_ns and times.between_ns:
        told += f", between the layers {times.between_ns / 1e6:.3f} ms"
    told += f"; with profiling on it took {slower:.0%} longer"
    return told + (f", so the layers are scaled by {times.scale:.2f}" if times.scaled else "")


def _table(
    listed: Sequence[LayerTime], times: LayerTimes, peaks: Peaks | None, caption: str
) -> str:
    whole = sum(layer.ns for layer in times.layers) or 1.0
    longest = max(layer.ns for layer in times.layers) or 1.0
    lines = [
        line(
            text(name_of(layer)),
            text(layer.op),
            text(layer.precision or NONE),
            f"{layer.ns / 1e3:.1f}",
            f"{layer.ns / whole:.1%} {share_bar(layer.ns / longest)}",
            _rate(layer),
            _roof(layer, peaks),
            f"<small>{text(layer.kernel)}</small>",
        )
        for layer in listed
    ]
    heads = ("layer", "operator", "precision", "#µs", "share", "#G op/s", "of its roof", "kernel")
    return table(heads, lines, caption=caption, kind="layers captioned")


def _rate(layer: LayerTime) -> str:
    return NONE if not layer.flops or not layer.ns else f"{layer.flops / layer.ns:.3g}"


def _roof(layer: LayerTime, peaks: Peaks | None) -> str:
    """The share of what the machine could do at this intensity, and which limit it is."""
    found = rated(layer, peaks)
    if found.share is None:
        return NONE
    limit = "memory" if found.bound == "memory" else "arithmetic"
    return f"{found.share:.0%} <small>{limit}</small>"
