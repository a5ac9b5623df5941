"""The signs that :mod:`edgekit.profile.diagnosis` looks for, each from the records alone.

Each takes the profile, one of its results and the threshold of its rule, and gives a
:class:`Finding`, or None: the sign is not there, or what would show it was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgekit.profile.records import LayerTime, Profile, Result
from edgekit.profile.stability import assess
from edgekit.profile.stats import least_samples, summarize

__all__ = ["Finding"]

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


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a profile says.

    Attributes:
        kind: of the rule, such as ``memory-bound``.
        artifact: that it is about; empty where it is about the machine.
        sentence: what is found, for a person.
        evidence: the figures that say so, by name.
        advice: what to do about it.
        doubt: whether it makes the measurement doubtful, and not the artifact slow.
    """

    kind: str
    artifact: str
    sentence: str
    evidence: tuple[tuple[str, str], ...]
    advice: str
    doubt: bool = False


def throttled(_: Profile, result: Result, threshold: float) -> Finding | None:
    found = result.samples.conditions
    if found is None:
        return None
    slowed = found.mhz is not None and found.mhz[0] < threshold * found.mhz[1]
    later = _drift(result)
    # Clocks also fall while nothing runs: only latencies that rose with them tell of throttling.
    if not found.throttled and not (slowed and later > 1.05):
        return None
    evidence = [("median, last quarter against the first", f"{later:.2f}x")]
    if found.throttled:
        evidence.append(("times the processor reported it", str(found.throttled)))
    if found.mhz is not None:
        evidence.append(("clock", f"{found.mhz[0]:.0f} to {found.mhz[1]:.0f} MHz"))
    if found.celsius is not None:
        evidence.append(("temperature", f"{found.celsius[0]:.0f} to {found.celsius[1]:.0f} °C"))
    return Finding(
        "throttled",
        result.samples.artifact,
        "The processor slowed down during the run, so latencies are of a hot machine.",
        tuple(evidence),
        "Cool it or lower the load, or take these figures as what the device sustains",
        doubt=True,
    )


def unstable(_: Profile, result: Result, __: float) -> Finding | None:
    found = assess(result.samples)
    restless = result.samples.warm_up is not None and not result.samples.warm_up.steady
    if found.stable is not False and not restless:
        return None
    told = "; ".join(found.reasons) if found.stable is False else "it had not when it was begun"
    evidence = [("how it moved", found.kind or "no stable start")]
    if found.causes:
        evidence.append(("meanwhile", ", ".join(found.causes)))
    return Finding(
        "unstable",
        result.samples.artifact,
        f"Latency did not settle: {told}.",
        tuple(evidence),
        "Measure longer, on a machine that does nothing else",
        doubt=True,
    )


def other_load(_: Profile, result: Result, threshold: float) -> Finding | None:
    found = result.samples.conditions
    if found is None:
        return None
    shares = {"other processes": found.others, "the hypervisor": found.steal}
    high = {
        name: share for name, share in shares.items() if share is not None and share > threshold
    }
    if not high:
        return None
    evidence = [(f"processor time of {name}", f"{share:.0%}") for name, share in high.items()]
    if found.preempted is not None:
        evidence.append(("preempted", f"{found.preempted:.0f} times a second"))
    return Finding(
        "other-load",
        "",
        f"The machine did other work meanwhile: {' and '.join(high)} took processor time.",
        tuple(evidence),
        "Stop what else runs, or hold edgekit to idle cores with --cores",
        doubt=True,
    )


def too_few(_: Profile, result: Result, threshold: float) -> Finding | None:
    count, wanted = len(result.samples.latencies_ns), least_samples(threshold)
    if count >= wanted:
        return None
    return Finding(
        "too-few-samples",
        result.samples.artifact,
        f"{count} samples do not bound a p{threshold * 100:g}: {wanted} would.",
        (("samples", str(count)), ("needed", str(wanted))),
        "Give the run more --seconds",
        doubt=True,
    )


def oversubscribed(profile: Profile, result: Result, threshold: float) -> Finding | None:
    settings = result.settings
    threads = settings.threads or result.samples.threads
    cores = profile.machine.cores
    if profile.simulated is not None and profile.simulated.cores:
        cores = profile.simulated.cores
    if threads is None or threads * settings.streams <= threshold * cores:
        return None
    return Finding(
        "oversubscribed",
        result.samples.artifact,
        f"{threads * settings.streams} threads share {cores} cores and wait for each other.",
        (
            ("threads of a session", str(threads)),
            ("sessions at the same time", str(settings.streams)),
            ("cores", str(cores)),
        ),
        "Lower --threads or streams until their product is the number of cores",
    )


def dropped(_: Profile, result: Result, threshold: float) -> Finding | None:
    outcome = result.outcome
    if outcome is None or outcome.dropped <= threshold * outcome.queries:
        return None
    return Finding(
        "dropped",
        result.samples.artifact,
        f"{outcome.dropped} of {outcome.queries} queries got no answer.",
        (("scenario", result.samples.scenario), ("without an answer", str(outcome.dropped))),
        "Offer a lower rate, or look at the server's log for the reason",
    )


def queue_bound(_: Profile, result: Result, threshold: float) -> Finding | None:
    total = sum(result.stages.values())
    waited = result.stages.get("queue", 0.0)
    if not total or waited / total <= threshold:
        return None
    return Finding(
        "queue-bound",
        result.samples.artifact,
        f"{waited / total:.0%} of a request's time in the server is waiting for the engine.",
        _stages(result, "queue", "infer"),
        "Offer less load, add instances or streams, or let requests run in batches",
    )


def serialising(_: Profile, result: Result, threshold: float) -> Finding | None:
    total = sum(result.stages.values())
    spent = sum(result.stages.get(name, 0.0) for name in ("parse", "serialise"))
    if not total or spent / total <= threshold:
        return None
    return Finding(
        "serialisation-bound",
        result.samples.artifact,
        f"{spent / total:.0%} of a request's time in the server goes into reading and writing "
        "tensors.",
        _stages(result, "parse", "serialise", "infer"),
        "Send tensors as bytes (the binary extension, or gRPC) and not as JSON",
    )


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
    inside = sum(layer.ns for layer in found.layers)
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
            ("outside", f"{(found.plain_ns - inside) / 1e3:.1f} µs"),
        ),
        "Larger batches, fewer threads for so small a model, or fewer and larger operators",
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
        layer
        for layer in _layers(result)
        if layer.inserted or layer.op.lower() in _CONVERSIONS
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


def heavy_tail(_: Profile, result: Result, threshold: float) -> Finding | None:
    found = summarize(result.samples)
    if not found.p99_supported or found.p99 <= threshold * found.p50:
        return None
    return Finding(
        "heavy-tail",
        result.samples.artifact,
        f"One inference in a hundred takes {found.p99 / found.p50:.1f} times as long as usual.",
        (("p50", f"{found.p50:.3f} ms"), ("p99", f"{found.p99:.3f} ms")),
        "Look for other load and for threads that wait: fewer --threads, or fixed --cores",
    )


def slow_start(_: Profile, result: Result, threshold: float) -> Finding | None:
    if result.costs is None or not result.costs.first_s:
        return None
    usual = summarize(result.samples).p50
    first = float(np.median(result.costs.first_s)) * 1e3
    if first <= threshold * usual or first < 50:  # below that nobody notices
        return None
    return Finding(
        "slow-start",
        result.samples.artifact,
        f"The first inference takes {first / usual:.0f} times as long as the others.",
        (("first", f"{first:.0f} ms"), ("p50", f"{usual:.3f} ms")),
        "Run one inference before the first request; edgekit serve does",
    )


@dataclass(frozen=True, slots=True)
class _Roofed:
    """A layer under the roof: what limits it, and how much of that it reaches (0 to 1)."""

    layer: LayerTime
    memory: bool
    roof_share: float


def _roofed(profile: Profile, result: Result) -> list[_Roofed]:
    peaks = profile.peaks
    if peaks is None or not peaks.flops:
        return []
    found = []
    for layer in _layers(result):
        if not layer.flops or not layer.bytes or layer.ns <= 0:
            continue
        peak = peaks.flops.get(layer.precision) or max(peaks.flops.values())
        reachable = layer.flops / layer.bytes * peaks.bytes_per_s
        rate = layer.flops / (layer.ns / 1e9)
        found.append(_Roofed(layer, reachable < peak, rate / min(peak, reachable)))
    return found


def _layers(result: Result) -> tuple[LayerTime, ...]:
    return result.layers.layers if result.layers is not None else ()


def _share(result: Result, layers: Iterable[LayerTime]) -> float:
    """Of the time in all layers."""
    total = sum(layer.ns for layer in _layers(result))
    return sum(layer.ns for layer in layers) / total if total else 0.0


def _stages(result: Result, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{result.stages.get(name, 0.0) / 1e3:.0f} µs") for name in names)


def _drift(result: Result) -> float:
    """Median of the last quarter for that of the first."""
    values = np.asarray(result.samples.latencies_ns, dtype=float)
    quarter = max(values.size // 4, 1)
    return float(np.median(values[-quarter:]) / np.median(values[:quarter]))


def _micro(layers: Iterable[LayerTime]) -> str:
    return f"{sum(layer.ns for layer in layers) / 1e3:.1f} µs"


def _name(layer: LayerTime) -> str:
    return layer.modules[0] if layer.modules else layer.node


def _count(entries: Iterable[object], noun: str) -> str:
    count = len(list(entries))
    return f"{count} {noun}{'' if count == 1 else 's'}"
