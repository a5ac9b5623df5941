"""How near a layer comes to what the machine can do: the roofline model.

Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", 2009: no kernel computes faster than the processor multiplies, nor faster than
memory brings what it computes with. Derived from what was measured, and kept nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.profile.records import LayerTime, Peaks, Profile, Result

__all__ = ["Roofline", "peaks_of", "roofline"]


@dataclass(frozen=True, slots=True)
class Roofline:
    """A layer against the peaks of its machine; None for what cannot be known.

    Attributes:
        flops_per_s: that the layer achieved.
        bytes_per_s: likewise.
        intensity: operations a byte.
        share: of the most that the machine could give a layer of this intensity and precision, 0 to
            1. More than 1 where caches, which are faster than memory, held what it read.
        bound: ``compute`` or ``memory``: which of the two it would meet first.
    """

    flops_per_s: float | None
    bytes_per_s: float | None
    intensity: float | None
    share: float | None
    bound: str


def peaks_of(profile: Profile, result: Result) -> Peaks | None:
    """The peaks of what the result ran on; None of a GPU: they were measured on the CPU."""
    on_cpu = result.settings.device in {None, "CPU"} and "tensorrt" not in result.samples.runtime
    return profile.peaks if on_cpu else None


def roofline(layer: LayerTime, peaks: Peaks | None) -> Roofline:
    """Where a layer stands. A layer that took no measurable time stands nowhere."""
    if layer.ns <= 0:
        return Roofline(None, None, None, None, "")
    seconds = layer.ns / 1e9
    flops = None if layer.flops is None else layer.flops / seconds
    moved = None if layer.bytes is None else layer.bytes / seconds
    intensity = layer.flops / layer.bytes if layer.flops is not None and layer.bytes else None
    if peaks is None:
        return Roofline(flops, moved, intensity, None, "")
    if layer.flops == 0:
        share = None if moved is None else moved / peaks.bytes_per_s
        return Roofline(flops, moved, intensity, share, "memory" if share is not None else "")
    peak = peaks.flops.get(layer.precision)
    if peak is None or intensity is None or flops is None:
        return Roofline(flops, moved, intensity, None, "")
    attainable = min(peak, intensity * peaks.bytes_per_s)
    bound = "compute" if peak <= intensity * peaks.bytes_per_s else "memory"
    return Roofline(flops, moved, intensity, flops / attainable, bound)
