"""From figures to sentences: what a profile says is wrong, what shows it, and what to do.

Every rule is a row of :data:`RULES`: its kind, its threshold, and in words what is compared with
it. A rule that lacks its figures says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.profile import layer_signs, signs
from edgekit.profile.records import Profile, Result
from edgekit.profile.signs import Finding

__all__ = ["RULES", "Finding", "Rule", "diagnose"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to look for.

    Attributes:
        kind: what it finds.
        threshold: from which on it finds it.
        meaning: what the threshold is of.
        look: gives the finding, or None.
    """

    kind: str
    threshold: float
    meaning: str
    look: Callable[[Profile, Result, float], Finding | None]


#: What is looked for, the gravest first: a run that cannot be trusted, then where the time goes.
RULES: Final = (
    Rule("throttled", 0.9, "lowest clock as a share of the highest", signs.throttled),
    Rule("unstable", 0.05, "change of the median during the run", signs.unstable),
    Rule("other-load", 0.05, "share of processor time that went to others", signs.other_load),
    Rule("too-few-samples", 0.99, "percentile that the samples must bound", signs.too_few),
    Rule("oversubscribed", 1.0, "threads of all streams for each core", signs.oversubscribed),
    Rule("dropped", 0.0, "share of queries without an answer", signs.dropped),
    Rule("queue-bound", 0.3, "share of a request's time in the queue", signs.queue_bound),
    Rule(
        "serialisation-bound", 0.3, "share of it in reading and writing tensors", signs.serialising
    ),
    Rule(
        "transfer-bound",
        0.2,
        "share of time in copies to and from the device",
        layer_signs.transfers,
    ),
    Rule("host-bound", 0.2, "share of an inference outside all layers", layer_signs.host_bound),
    Rule(
        "fell-back",
        0.05,
        "share of time in float layers of an int8 artifact",
        layer_signs.fell_back,
    ),
    Rule(
        "conversions",
        0.1,
        "share of time in reorders, casts and (de)quantizing",
        layer_signs.conversions,
    ),
    Rule("one-layer", 0.4, "share of time in one layer", layer_signs.one_layer),
    Rule(
        "memory-bound", 0.5, "share of time in layers that memory limits", layer_signs.memory_bound
    ),
    Rule(
        "compute-bound",
        0.5,
        "share of the machine's peak that is reached",
        layer_signs.compute_bound,
    ),
    Rule("small-layers", 0.1, "share of the roof that is reached", layer_signs.small_layers),
    Rule("heavy-tail", 3.0, "p99 for each p50", signs.heavy_tail),
    Rule("slow-start", 20.0, "inferences in the time of the first one", signs.slow_start),
)


def diagnose(profile: Profile, results: Sequence[Result] | None = None) -> list[Finding]:
    """Everything that the rules find, rule by rule.

    Args:
        profile: what was measured.
        results: only these of it; None for all.
    """
    judged = profile.results if results is None else results
    found = [
        finding
        for rule in RULES
        for result in judged
        if (finding := rule.look(profile, result, rule.threshold)) is not None
    ]
    return list(dict.fromkeys(found))
