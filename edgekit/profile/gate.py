"""Gates: what a measured bundle must hold, such as ``p99<8ms``, ``drop<0.5`` or ``p50<1.05x``.

A gate with a unit of its own is judged by the figure itself. One in ``x`` is judged against a
baseline, a profile that was kept: it fails only where the whole 95 % interval of the ratio is
beyond the limit, so that noise does not fail it; a slow-down that the samples cannot tell from
noise passes. What cannot be judged fails and says why: too few samples for the percentile, a
baseline of another machine, or one without that artifact and setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from edgekit.bundle import Bundle
from edgekit.errors import SpecError, did_you_mean
from edgekit.manifest import Manifest
from edgekit.profile.figures import Measured, measured, ratio
from edgekit.profile.goals import Goal, Unit, parse_goal
from edgekit.profile.records import Costs, Profile

__all__ = ["METRICS", "Verdict", "judge", "parse_gates"]

_OPTION: Final = "--gate"

#: Figures of :class:`~edgekit.profile.records.Costs`, and their units.
_COSTS: Final[Mapping[str, tuple[Unit, Callable[[Costs], float]]]] = {
    "load": ("s", lambda costs: median(costs.load_s)),
    "first": ("s", lambda costs: median(costs.first_s)),
    "cold-start": ("s", lambda costs: median(costs.cold_start_s)),
    "steady": ("MB", lambda costs: costs.steady_bytes / 1e6),
    "peak": ("MB", lambda costs: costs.peak_bytes / 1e6),
    "cpu": ("ms", lambda costs: costs.cpu_s * 1e3),
}

#: What can be gated besides percentiles (``p50``, ``p99.9``).
METRICS: Final = ("throughput", "drop", "size", *_COSTS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one gate on one artifact and setting.

    Attributes:
        told: the figures, in words.
    """

    gate: Goal
    point: str
    passed: bool
    told: str

    def __str__(self) -> str:
        became = "passed" if self.passed else "failed"
        return f"gate {self.gate} {became}: {self.point}, {self.told}"


def parse_gates(texts: Sequence[str], bundle: Bundle, baseline: Profile | None) -> list[Goal]:
    """Read gates, and see before anything is measured that they can be judged.

    Raises:
        SpecError: not a gate, an unknown metric, a unit that is not the metric's, a gate in ``x``
            without a baseline, or ``drop`` of a bundle whose metric does not tell one.
    """
    gates = [parse_goal(text, option=_OPTION) for text in texts]
    for gate in gates:
        where = f"{_OPTION}, {gate}"
        if gate.percentile is None and gate.metric not in METRICS:
            raise SpecError(
                f"{gate.metric!r} is no metric{did_you_mean(gate.metric, METRICS)}",
                where=where,
                fix=f"Use a percentile such as p99, or one of {', '.join(METRICS)}",
            )
        if gate.metric == "drop":
            _require_drop(bundle.manifest, gate)
        elif gate.unit != "x":
            gate.value_in(_unit(gate))
        elif baseline is None:
            raise SpecError(
                "is against a baseline, and there is none",
                where=where,
                fix="Give the profile to compare with: --baseline old.json",
            )
    return gates


def judge(
    gates: Sequence[Goal],
    bundle: Bundle,
    profile: Profile,
    *,
    baseline: Profile | None = None,
    points: Sequence[Measured] | None = None,
) -> list[Verdict]:
    """Judge every gate on every point.

    Args:
        gates: as :func:`parse_gates` gives them.
        bundle: that was measured.
        profile: what was measured of it.
        baseline: for gates in ``x``.
        points: that are judged; None for those of the artifact that the bundle selected for each
            runtime, or for all where none of these was measured.
    """
    if points is None:
        every = measured(profile)
        selected = bundle.manifest.selected
        points = [point for point in every if point.artifact in selected] or every
    return [
        Verdict(gate, point.name, *_judged(gate, point, bundle, profile, baseline))
        for gate in gates
        for point in points
    ]


def _judged(
    gate: Goal, point: Measured, bundle: Bundle, profile: Profile, baseline: Profile | None
) -> tuple[bool, str]:
    if gate.metric == "drop":
        drop, told = _drop(bundle.manifest, point.artifact)
        return gate.met(drop, gate.unit), told
    if gate.percentile is not None and (lack := point.lacks(gate.percentile)):
        return False, f"too few samples: {lack}"
    value = _value(gate, point, bundle, profile)
    if value is None:
        return False, f"{gate.metric} was not measured"
    if gate.unit == "x" and baseline is not None:
        return _against(gate, point, value, bundle, profile, baseline)
    return gate.met(value, _unit(gate)), f"{gate.metric} {value:.4g} {_unit(gate)}".rstrip()


def _against(
    gate: Goal, point: Measured, value: float, bundle: Bundle, now: Profile, then: Profile
) -> tuple[bool, str]:
    here, there = (f"{one.machine.cpu}, {one.machine.cores} cores" for one in (now, then))
    if here != there:
        return False, f"the baseline was measured on another machine: {there}, this is {here}"
    old = next((one for one in measured(then) if one.name == point.name), None)
    if old is None:
        return False, "the baseline has no such artifact and setting"
    if point.samples[0].block != old.samples[0].block:
        return False, "the baseline was measured by another command, in turns of another length"
    unit = _unit(gate)
    if gate.percentile is None and gate.metric != "throughput":
        before = _value(gate, old, bundle, then)
        if gate.metric == "size" or not before:
            return False, f"the baseline does not know its {gate.metric}"
        told = f"{gate.metric} {value:.4g} {unit}, {value / before:.2f}x of {before:.4g} {unit}"
        return gate.met(value / before, "x"), told
    if gate.percentile is not None and (lack := old.lacks(gate.percentile)):
        return False, f"too few samples in the baseline: {lack}"
    times = ratio(point, old, gate.percentile)
    before = old.throughput if gate.percentile is None else old.latency(gate.percentile)
    kindest = times.low if gate.op.startswith("<") else times.high
    told = f"{gate.metric} {value:.4g} {unit}".rstrip()
    return gate.met(kindest, "x"), f"{told}, {times} of {before:.4g} {unit}".rstrip()


def _value(gate: Goal, point: Measured, bundle: Bundle, profile: Profile) -> float | None:
    if gate.percentile is not None:
        return point.latency(gate.percentile)
    if gate.metric == "throughput":
        return point.throughput
    if gate.metric == "size":
        return bundle.manifest.artifact(point.artifact).size / 1e6
    costs = (one.costs for one in profile.results if one.samples.artifact == point.artifact)
    found = next((one for one in costs if one is not None), None)
    return None if found is None else _COSTS[gate.metric][1](found)


def _unit(gate: Goal) -> Unit:
    if gate.percentile is not None:
        return "ms"
    if gate.metric == "size":
        return "MB"
    return _COSTS[gate.metric][0] if gate.metric in _COSTS else ""


def _require_drop(manifest: Manifest, gate: Goal) -> None:
    where = f"{_OPTION}, {gate}"
    accuracy = manifest.accuracy
    if accuracy is None:
        raise SpecError(
            "the bundle has no accuracy: its workload has no metric",
            where=where,
            fix="Give the workload an evaluate and a metric, and build the bundle again",
        )
    if not 0 <= accuracy.reference <= 1:
        raise SpecError(
            f"its metric {accuracy.metric} is {accuracy.reference:g}, not a share between 0 and 1",
            where=where,
            fix="Limit it when the bundle is built: Metric(..., max_drop=...)",
        )
    if gate.unit not in {"", "%"}:
        raise SpecError(
            "a drop is in percentage points",
            where=where,
            fix="Write drop<0.5 for half a percentage point",
        )


def _drop(manifest: Manifest, artifact: str) -> tuple[float, str]:
    """The drop in percentage points; NaN, which meets no gate, where it was not evaluated."""
    accuracy = manifest.accuracy
    if accuracy is None or artifact not in accuracy.artifacts:
        return float("nan"), "it was not evaluated when the bundle was built"
    score = accuracy.artifacts[artifact]
    worse = accuracy.reference - score if accuracy.higher_is_better else score - accuracy.reference
    told = f"{accuracy.metric} {score:.4f}, the original has {accuracy.reference:.4f}"
    return 100 * worse, f"drop {100 * worse:.2f} percentage points ({told})"
