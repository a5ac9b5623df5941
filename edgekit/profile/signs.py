"""Signs of a whole run that :mod:`edgekit.profile.diagnosis` looks for, from the records alone.

Each takes the profile, one of its results and the threshold of its rule, and gives a
:class:`Finding`, or None: the sign is not there, or what would show it was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.profile.records import Profile, Result
from edgekit.profile.stability import assess
from edgekit.profile.stats import least_samples, summarize

__all__ = [
    "Finding",
    "dropped",
    "heavy_tail",
    "other_load",
    "oversubscribed",
    "queue_bound",
    "serialising",
    "slow_start",
    "throttled",
    "too_few",
    "unstable",
]


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
    share = _share(result, "queue")
    if share <= threshold:
        return None
    return Finding(
        "queue-bound",
        result.samples.artifact,
        f"{share:.0%} of a request's time in the server is waiting for the engine.",
        _stages(result, "queue", "infer"),
        "Offer less load, add instances or streams, or let requests run in batches",
    )


def serialising(_: Profile, result: Result, threshold: float) -> Finding | None:
    share = _share(result, "parse", "serialise")
    if share <= threshold:
        return None
    return Finding(
        "serialisation-bound",
        result.samples.artifact,
        f"{share:.0%} of a request's time in the server goes into reading and writing tensors.",
        _stages(result, "parse", "serialise", "infer"),
        "Send tensors as bytes (the binary extension, or gRPC) and not as JSON",
    )


def _share(result: Result, *stages: str) -> float:
    """Of these stages in a request's time in the server; 0 where nothing is known of them."""
    total = sum(result.stages.values())
    return sum(result.stages.get(name, 0.0) for name in stages) / total if total else 0.0


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


def _stages(result: Result, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{result.stages.get(name, 0.0) / 1e3:.0f} µs") for name in names)


def _drift(result: Result) -> float:
    """Median of the last quarter for that of the first."""
    values = np.asarray(result.samples.latencies_ns, dtype=float)
    quarter = max(values.size // 4, 1)
    return float(np.median(values[-quarter:]) / np.median(values[:quarter]))
