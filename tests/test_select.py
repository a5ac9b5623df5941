"""The decision, on artifacts with made-up figures: every reason for a choice, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.recipe import Budget
from edgekit.manifest import Accuracy, Artifact, Decision, FileEntry, Verification
from edgekit.profile.samples import Samples
from edgekit.select import decide
from tests.profile.test_stats import samples

BASE, INT8 = (
    Artifact(
        id=f"openvino-{precision}",
        runtime="openvino",
        precision=precision,
        format="openvino-ir",
        files=(FileEntry(path="m.xml", sha256="0" * 64, size=1),),
        opset=20,
    )
    for precision in ("fp32", "int8")
)


def _latency(milliseconds: float) -> Samples:
    noise = np.random.default_rng(0).uniform(0.98, 1.02, 200)
    return samples([int(v * milliseconds * 1e6) for v in noise], block=4)


def _passed(artifact: Artifact) -> Verification:
    return Verification(artifact=artifact.id, samples=1, outputs={}, passed=True)


def _decide(
    *,
    int8_ms: float = 1.0,
    score: float = 0.90,
    verification: Verification | None = None,
    budget: Budget = Budget(),  # noqa: B008
) -> Decision:
    return decide(
        "openvino",
        [BASE, INT8],
        verification={BASE.id: _passed(BASE), INT8.id: verification or _passed(INT8)},
        accuracy=Accuracy(
            metric="accuracy",
            higher_is_better=True,
            max_drop=0.01,
            reference=0.90,
            artifacts={BASE.id: 0.90, INT8.id: score},
        ),
        samples={BASE.id: _latency(2.0), INT8.id: _latency(int8_ms)},
        budget=budget,
    )


def test_faster_and_inside_the_budget_wins() -> None:
    decision = _decide()
    assert decision.selected == INT8.id
    assert "2.00x as fast" in decision.reason
    assert BASE.id in decision.rejected


@pytest.mark.parametrize("milliseconds", [2.0, 3.0])
def test_not_faster_keeps_the_original_and_says_by_how_much(milliseconds: float) -> None:
    decision = _decide(int8_ms=milliseconds)
    assert decision.selected == BASE.id
    assert f"{2.0 / milliseconds:.2f}x the speed" in decision.rejected[INT8.id]


def test_outside_the_accuracy_budget_is_rejected() -> None:
    decision = _decide(score=0.88)
    assert decision.selected == BASE.id
    assert "0.0200 worse" in decision.rejected[INT8.id]


def test_a_small_drop_is_allowed() -> None:
    assert _decide(score=0.895).selected == INT8.id


def test_a_failed_verification_is_rejected_whatever_the_speed() -> None:
    failed = _passed(INT8).model_copy(update={"passed": False, "reason": "SQNR of 1 dB"})
    assert "SQNR of 1 dB" in _decide(verification=failed).rejected[INT8.id]


def test_what_cannot_be_run_here_is_not_selected_over_the_original() -> None:
    absent = _passed(INT8).model_copy(update={"ran": False, "reason": "no GPU"})
    decision = _decide(verification=absent)
    assert decision.selected == BASE.id
    assert "not measured here: no GPU" in decision.rejected[INT8.id]


def test_the_recipe_may_ask_for_a_larger_speed_up() -> None:
    assert _decide(budget=Budget(min_speedup=3.0)).selected == BASE.id


def test_without_candidates_the_original_is_selected() -> None:
    decision = decide(
        "openvino",
        [BASE],
        verification={BASE.id: _passed(BASE)},
        accuracy=None,
        samples={},
        budget=Budget(),
    )
    assert (decision.selected, decision.reason) == (BASE.id, "the only artifact")
