"""The slowest layers of an artifact in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.profile.records import LayerTime, LayerTimes, Peaks, Profile
from edgekit.profile.roofline import peaks_of, roofline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_all_layers", "print_layers", "print_peaks"]

_LISTED = 10
#: Profiling that makes inferences this much longer is told.
_HEAVY = 1.2
#: So is other work that used this share of the processors while peaks were measured.
_BUSY = 0.1


def print_all_layers(profile: Profile, console: Console) -> None:
    """The layers of every artifact that they are known of."""
    for result in profile.results:
        if result.layers is not None:
            console.print()
            peaks = peaks_of(profile, result)
            print_layers(result.samples.artifact, result.layers, peaks, console)
    if profile.peaks is not None:
        print_peaks(profile.peaks, console)


def print_layers(artifact: str, times: LayerTimes, peaks: Peaks | None, console: Console) -> None:
    """The ten layers that take most of the time, and what is around and between them."""
    from rich.table import Table

    table = Table(title=f"Layers of {artifact}", title_justify="left", box=None)
    for name in ("ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("module")
    table.add_column("executed as", no_wrap=True)
    for name in ("GOP/s", "of roofline"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(times.layers, key=lambda layer: -layer.ns)
    whole = max(times.plain_ns, times.layers_ns)
    for layer in ordered[:_LISTED]:
        _add(table, layer, whole, peaks)
    rest = sum(layer.ns for layer in ordered[_LISTED:])
    if rest:
        table.add_row(*_share(rest, whole), f"[dim]{len(ordered) - _LISTED} other layers[/]")
    outside = max(0.0, whole - times.layers_ns - times.call_ns)
    if times.call_ns:
        table.add_row(*_share(times.call_ns, whole), "[dim]the call: Python, inputs, outputs[/]")
    if outside:
        name = "between" if times.call_ns else "outside"
        table.add_row(*_share(outside, whole), f"[dim]{name} the layers[/]")
    console.print(table)
    console.print(_words(times), style="dim", highlight=False, markup=False)


def print_peaks(peaks: Peaks, console: Console) -> None:
    """What shares of the roofline are shares of."""
    speeds = ", ".join(f"{value / 1e9:.0f} GOP/s {name}" for name, value in peaks.flops.items())
    told = (
        f"Roofline: {speeds}, {peaks.bytes_per_s / 1e9:.1f} GB/s from memory, measured with "
        f"{peaks.threads} threads on {peaks.measured[:10]}. Over 100 %: caches held what was read."
    )
    if peaks.others is not None and peaks.others > _BUSY:
        told += f" Other work used {peaks.others:.0%} of the processors: the peaks are too low."
    console.print(told, style="dim", highlight=False, markup=False)


def _add(table: Table, layer: LayerTime, whole: float, peaks: Peaks | None) -> None:
    from rich.markup import escape

    place = roofline(layer, peaks)
    modules = " + ".join(layer.modules) or layer.node
    table.add_row(
        *_share(layer.ns, whole),
        escape(f"(inserted for) {modules}" if layer.inserted else modules),
        f"{layer.op} {layer.precision}",
        "" if not place.flops_per_s else f"{place.flops_per_s / 1e9:.1f}",
        "" if place.share is None else f"{place.share:.0%} {place.bound}",
    )


def _share(ns: float, whole: float) -> tuple[str, str]:
    return f"{ns / 1e6:.3f}", f"{ns / whole:.1%}" if whole else ""


def _words(times: LayerTimes) -> str:
    told = f"{times.mapped:.0%} of the layers' time is of known PyTorch modules."
    slower = times.inference_ns / times.plain_ns if times.plain_ns else 1.0
    if slower > _HEAVY:
        told += f" Profiling makes it take {slower:.1f} times as long."
    if times.profiler_ns > 500:
        told += f" Taken off each layer: {times.profiler_ns / 1e3:.1f} us of profiling."
    if times.scaled:
        told += (
            f" Their times are scaled by {times.scale:.2f}, to fit into an inference without it."
        )
    return told
