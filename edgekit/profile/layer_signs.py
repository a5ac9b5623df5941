"""Signs in the layers of an artifact; see :mod:`edgekit.profile.signs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.profile.records import LayerTime, LayerTimes, Profile, Result
from edgekit.profile.roofline import peaks_of, roofline
from edgekit.profile.signs import Finding

__all__ = [
    "compute_bound",
    "conversions",
    "fell_back",
    "host_bound",
    "memory_bound",
    "one_layer",
    "small_layers",
    "transfers",
]

#: Operators that move data to and from a device.
_COPIES = {"memcpytohost", "memcpyfromhost", "memcpy"}

#: Operators that change the form of data and compute nothing with it.
_CONVERSIONS = {
    "reorder", "convert", "cast", "quantizelinear", "dequantizelinear", "quantize", "dequantize",
    "reorderinput", "reorderoutput", "transpose", "fakequantize", "dynamicquantizelinear",
}  # fmt: skip

#: What the weight of a network is in: an int8 artifact should compute these in integers.
_HEAVY = ("conv", "matmul", "gemm", "fullyconnected", "innerproduct", "lstm", "gru")

_FLOAT = {"fp32", "fp16", "bf16", "f32", "f16", "float32", "float16", "bfloat16"}


def transfers(_: Profile, result: Result, threshold: float) -> Finding | None:
    layers = [layer for layer in _layers(result) if layer.op.lower() in _COPIES]
    share = _share(result, layers)
    if share <= threshold:
        return None
    return Finding(
        "transfer-bound",
        result.samples.artifact,
        f"{share:.0%} of the time copies tensors between the processor and the device.",
        (("copies", str(len(layers))), ("in all", _micro(layers))),
        "Larger batches, or a graph that the device computes as a whole",
    )


def host_bound(_: Profile, result: Result, threshold: float) -> Finding | None:
    found = result.layers
    if found is None or not found.layers or found.plain_ns <= 0:
        return None
    inside = found.layers_ns
    share = 1.0 - inside / found.plain_ns
    if share <= threshold:
        return None
    return Finding(
        "host-bound",
        result.samples.artifact,
        f"{share:.0%} of an inference is spent outside the layers: in the call, the scheduler "
        "and Python.",
        (
            ("one inference", f"{found.plain_ns / 1e3:.1f} µs"),
            ("in layers", f"{inside / 1e3:.1f} µs"),
            *_around(found),
        ),
        "Larger batches, fewer threads for so small a model, or fewer and larger operators",
    )


def _around(found: LayerTimes) -> tuple[tuple[str, str], ...]:
    if not found.call_ns:
        return (("outside", f"{(found.plain_ns - found.layers_ns) / 1e3:.1f} µs"),)
    return (
        ("in the call", f"{found.call_ns / 1e3:.1f} µs"),
        ("between layers", f"{found.between_ns / 1e3:.1f} µs"),
    )


def fell_back(_: Profile, result: Result, threshold: float) -> Finding | None:
    if "int8" not in result.samples.artifact.split("-"):
        return None
    layers = [
        layer
        for layer in _layers(result)
        if layer.precision.lower() in _FLOAT and any(part in layer.op.lower() for part in _HEAVY)
    ]
    share = _share(result, layers)
    if share <= threshold:
        return None
    worst = max(layers, key=lambda layer: layer.ns)
    return Finding(
        "fell-back",
        result.samples.artifact,
        f"{_count(layers, 'layer')} of this int8 artifact ran in {worst.precision}, "
        f"{share:.0%} of the time.",
        (("slowest of them", _name(worst)), ("in all", _micro(layers))),
        "Quantize them (a recipe's keep-float list or search leaves them float), or see with "
        "edgekit diff whether they need to be float",
    )


def conversions(_: Profile, result: Result, threshold: float) -> Finding | None:
    layers = [
        layer for layer in _layers(result) if layer.inserted or layer.op.lower() in _CONVERSIONS
    ]
    share = _share(result, layers)
    if share <= threshold:
        return None
    kinds = ", ".join(sorted({layer.op for layer in layers}))
    return Finding(
        "conversions",
        result.samples.artifact,
        f"{share:.0%} of the time only changes the form of data ({kinds}).",
        (("operators", str(len(layers))), ("in all", _micro(layers))),
        "Keep neighbours in one precision and layout: leave less float between int8 layers",
    )


def one_layer(_: Profile, result: Result, threshold: float) -> Finding | None:
    layers = _layers(result)
    if len(layers) < 5:
        return None
    worst = max(layers, key=lambda layer: layer.ns)
    share = _share(result, [worst])
    if share <= threshold:
        return None
    return Finding(
        "one-layer",
        result.samples.artifact,
        f"One of {len(layers)} layers takes {share:.0%} of the time: {_name(worst)}.",
        (
            ("its time", _micro([worst])),
            ("operator", worst.op),
            ("precision", worst.precision or "-"),
        ),
        "Make this one smaller or cheaper: prune or factorize it, or lower its input's resolution",
    )


def memory_bound(profile: Profile, result: Result, threshold: float) -> Finding | None:
    known = _roofed(profile, result)
    limited = [one for one in known if one.memory and one.roof_share > 0.3]
    share = _share(result, [one.layer for one in limited])
    if share <= threshold:
        return None
    assert profile.peaks is not None
    moved = sum(one.layer.bytes or 0 for one in limited)
    rate = moved / (sum(one.layer.ns for one in limited) / 1e9)
    return Finding(
        "memory-bound",
        result.samples.artifact,
        f"{share:.0%} of the time is spent in layers that wait for memory.",
        (
            ("layers", str(len(limited))),
            ("bandwidth that they reach", f"{rate / 1e9:.1f} GB/s"),
            ("bandwidth of the machine", f"{profile.peaks.bytes_per_s / 1e9:.1f} GB/s"),
        ),
        "Fewer bytes: smaller weights (int8, int4), fused operators, fewer channels; more cores "
        "will not help",
    )


def compute_bound(profile: Profile, result: Result, threshold: float) -> Finding | None:
    known = [one for one in _roofed(profile, result) if not one.memory]
    share = _share(result, [one.layer for one in known])
    time = sum(one.layer.ns for one in known)
    if not time or share < 0.5:
        return None
    reached = sum(one.roof_share * one.layer.ns for one in known) / time
    if reached <= threshold:
        return None
    flops = sum(one.layer.flops or 0 for one in known) / (time / 1e9)
    return Finding(
        "compute-bound",
        result.samples.artifact,
        f"The layers reach {reached:.0%} of what the processor can compute: the engine does its "
        "part.",
        (("rate", f"{flops / 1e9:.1f} G operations/s"), ("share of time in them", f"{share:.0%}")),
        "Fewer or cheaper operations: prune, a lower precision, a smaller input",
    )


def small_layers(profile: Profile, result: Result, threshold: float) -> Finding | None:
    known = _roofed(profile, result)
    low = [one.layer for one in known if one.roof_share < threshold]
    share = _share(result, low)
    if share <= 0.5:
        return None
    return Finding(
        "small-layers",
        result.samples.artifact,
        f"{share:.0%} of the time is spent in layers that reach less than {threshold:.0%} of "
        "what the machine could do: they are too small for it.",
        (("layers", f"{len(low)} of {len(_layers(result))}"), ("in all", _micro(low))),
        "Larger batches, fewer threads, or fewer and larger layers",
    )


@dataclass(frozen=True, slots=True)
class _Roofed:
    """A layer under the roof: what limits it, and how much of that it reaches (0 to 1)."""

    layer: LayerTime
    memory: bool
    roof_share: float


def _roofed(profile: Profile, result: Result) -> list[_Roofed]:
    """The layers of which it is known where they stand."""
    peaks = peaks_of(profile, result)
    stands = [(layer, roofline(layer, peaks)) for layer in _layers(result)]
    return [
        _Roofed(layer, one.bound == "memory", one.share)
        for layer, one in stands
        if one.share is not None
    ]


def _layers(result: Result) -> tuple[LayerTime, ...]:
    return result.layers.layers if result.layers is not None else ()


def _share(result: Result, layers: Iterable[LayerTime]) -> float:
    """Of the time in all layers."""
    total = sum(layer.ns for layer in _layers(result))
    return sum(layer.ns for layer in layers) / total if total else 0.0


def _micro(layers: Iterable[LayerTime]) -> str:
    return f"{sum(layer.ns for layer in layers) / 1e3:.1f} µs"


def _name(layer: LayerTime) -> str:
    return layer.modules[0] if layer.modules else layer.node


def _count(entries: Iterable[object], noun: str) -> str:
    count = len(list(entries))
    return f"{count} {noun}{'' if count == 1 else 's'}"
