"""Derived figures that several parts of the report show, and when two may be set side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.machine import Machine
from edgekit.profile.samples import Samples
from edgekit.profile.stats import MARGIN, compare, percentile_interval
from edgekit.spec import Array

__all__ = ["Difference", "difference", "interval", "interval_text", "same_machine"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How the median latency of one artifact changed from one measurement to another.

    Attributes:
        verdict: ``better``, ``worse``, ``same`` or ``unknown``: not comparable.
        told: why, in words.
        ratio: how many times as fast; None where not comparable.
    """

    verdict: Literal["better", "worse", "same", "unknown"]
    told: str
    ratio: float | None = None


def interval(samples: Samples) -> tuple[float, float]:
    """The 95 % interval of the median, in milliseconds; infinite where nothing bounds it."""
    found = percentile_interval(_milliseconds(samples), 50)
    return found.low, found.high


def interval_text(low: float, high: float) -> str:
    """``[1.301, 1.352]``; ``?`` where nothing bounds it."""
    return f"[{low:.3f}, {f'{high:.3f}' if math.isfinite(high) else '?'}]"


def same_machine(first: Machine, second: Machine) -> bool:
    """Whether both are machines of one kind, as far as latencies depend on it."""
    near = abs(first.memory_bytes - second.memory_bytes) <= 0.05 * first.memory_bytes
    kind = (first.cpu, first.features, first.cores)
    return near and kind == (second.cpu, second.features, second.cores)


def difference(before: Samples, after: Samples) -> Difference:
    """Compare medians where that is honest.

    Taken in turns in one run, the bootstrap of their ratio decides. Taken in different runs on one
    machine, only intervals that do not overlap are a difference, and only above the smallest one
    that counts. Anything else is not compared.
    """
    if not same_machine(before.machine, after.machine):
        other = f"{before.machine.cpu}, {before.machine.cores} cores"
        return Difference("unknown", f"not compared: the first was measured on {other}")
    settings = [(s.shapes, s.threads, s.device, s.scenario) for s in (before, after)]
    if settings[0] != settings[1]:
        return Difference("unknown", "not compared: measured with other settings")
    if before.run == after.run and len(before.latencies_ns) == len(after.latencies_ns):
        found = compare(before, after)
        kinds: dict[str, Literal["better", "worse", "same"]]
        kinds = {"faster": "better", "slower": "worse", "same": "same", "unclear": "same"}
        told = (
            f"{found.ratio:.2f}x as fast [{found.low:.2f}, {found.high:.2f}], in turns in one run"
        )
        if kinds[found.verdict] == "same":
            told = f"no difference that counts [{found.low:.2f}, {found.high:.2f}]"
        return Difference(kinds[found.verdict], told, found.ratio)
    return _apart(before, after)


def _apart(before: Samples, after: Samples) -> Difference:
    first, second = (percentile_interval(_milliseconds(one), 50) for one in (before, after))
    ratio = first.value / second.value
    overlap = first.low <= second.high and second.low <= first.high
    if overlap or max(ratio, 1 / ratio) < 1 + MARGIN:
        why = "the intervals overlap" if overlap else f"less than {MARGIN:.0%} apart"
        return Difference("same", f"no difference that can be told: {why}", ratio)
    told = f"{ratio:.2f}x as fast, measured in different runs"
    return Difference("better" if ratio > 1 else "worse", told, ratio)


def _milliseconds(samples: Samples) -> Array:
    return np.asarray(samples.latencies_ns) / 1e6
