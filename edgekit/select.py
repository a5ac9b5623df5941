"""Choose one artifact for each runtime: the fastest that keeps its promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.compress.recipe import Budget
from edgekit.manifest import Accuracy, Artifact, Decision, Verification
from edgekit.profile.samples import Samples
from edgekit.profile.stats import compare
from edgekit.workload import Metric

__all__ = ["decide"]


def decide(
    runtime: str,
    artifacts: Sequence[Artifact],
    *,
    verification: Mapping[str, Verification],
    accuracy: Accuracy | None,
    samples: Mapping[str, Samples],
    budget: Budget,
) -> Decision:
    """Choose for one runtime.

    A compressed artifact is chosen only when it was verified, its metric is inside the budget,
    and it is faster than the uncompressed one with 95 % confidence in one interleaved run.

    Args:
        runtime: the runtime.
        artifacts: its candidates, the uncompressed one (the baseline) first.
        verification: by artifact id.
        accuracy: the workload's metric of each artifact.
        samples: latencies by artifact id.
        budget: the recipe's least speed-up.
    """
    baseline, *candidates = artifacts
    rejected: dict[str, str] = {}
    gains: dict[str, float] = {}
    for candidate in candidates:
        reason = _broken(candidate, verification) or _over_budget(candidate, accuracy)
        if not reason:
            reason, gain = _not_faster(candidate, baseline, samples, budget)
            gains[candidate.id] = gain
        if reason:
            rejected[candidate.id] = reason
    inside = {name: gain for name, gain in gains.items() if name not in rejected}
    if inside:
        best = max(inside, key=lambda name: inside[name])
        rejected |= {name: f"{best} is faster" for name in inside if name != best} | {
            baseline.id: f"{best} is {inside[best]:.2f}x as fast, inside the budget"
        }
        return Decision(
            runtime=runtime,
            selected=best,
            reason=f"{inside[best]:.2f}x as fast as {baseline.id}, inside the accuracy budget",
            rejected=rejected,
        )
    why = "; ".join(f"{name}: {told}" for name, told in rejected.items()) or "the only artifact"
    return Decision(runtime=runtime, selected=baseline.id, reason=why, rejected=rejected)


def _broken(candidate: Artifact, verification: Mapping[str, Verification]) -> str:
    record = verification[candidate.id]
    if not record.passed:
        return f"failed verification: {record.reason}"
    return "" if record.ran else f"not measured here: {record.reason}"


def _over_budget(candidate: Artifact, accuracy: Accuracy | None) -> str:
    if accuracy is None or candidate.id not in accuracy.artifacts:
        return ""
    value = accuracy.artifacts[candidate.id]
    metric = Metric(accuracy.metric, accuracy.higher_is_better)
    if metric.within(accuracy.reference, value, accuracy.max_drop):
        return ""
    drop = metric.drop(accuracy.reference, value)
    return (
        f"{accuracy.metric} {value:.4f} is {drop:.4f} worse than {accuracy.reference:.4f}, "
        f"the budget is {accuracy.max_drop:g}"
    )


def _not_faster(
    candidate: Artifact, baseline: Artifact, samples: Mapping[str, Samples], budget: Budget
) -> tuple[str, float]:
    """Why the candidate does not pay ("" when it does), and its speed-up over the baseline."""
    if candidate.id not in samples or baseline.id not in samples:
        return "its latency was not measured", 0.0
    measured = compare(samples[baseline.id], samples[candidate.id])
    if measured.low > budget.min_speedup:
        return "", measured.ratio
    return (
        f"{measured.ratio:.2f}x the speed of {baseline.id} "
        f"(95 % interval {measured.low:.2f} to {measured.high:.2f}), "
        f"needs more than {budget.min_speedup:g}x"
    ), measured.ratio
