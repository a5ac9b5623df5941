"""What the statistics promise, counted over 100 runs each on engines whose law is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest

from edgekit.profile.samples import Samples
from edgekit.profile.stability import assess
from edgekit.profile.stats import compare, summarize
from tests.profile.synthetic import (
    Law,
    bimodal,
    correlated,
    drifting,
    engine,
    fixed,
    lognormal,
    measured,
    pareto,
    slower,
    throttled,
)

pytestmark = pytest.mark.slow

TRIALS = 100
ROUNDS = 250
CALLS = ROUNDS * 5  # one of each block is not counted


def _of_normal(share: float) -> float:
    return float(2.0 * np.exp(0.5 * NormalDist().inv_cdf(share)))


def _of_bimodal(share: float) -> float:
    return 1.95 + 0.1 * share / 0.7 if share < 0.7 else 2.95 + 0.1 * (share - 0.7) / 0.3


#: The true percentile, in milliseconds.
TRUTH: dict[Law, Callable[[float], float]] = {
    fixed: lambda _: 2.0,
    bimodal: _of_bimodal,
    lognormal: _of_normal,
    correlated: _of_normal,
    pareto: lambda share: 2.0 * (1.0 - share) ** (-1 / 1.5),
}


@cache
def runs(law: Law) -> list[Samples]:
    return [measured([law], seed, ROUNDS)[0] for seed in range(TRIALS)]


@pytest.mark.parametrize("law", TRUTH)
def test_percentiles_lie_inside_their_95_percent_interval(law: Law) -> None:
    inside: Counter[float] = Counter()
    for samples in runs(law):
        for share, found in summarize(samples).percentiles.items():
            inside[share] += found.low - 1e-5 <= TRUTH[law](share / 100) <= found.high + 1e-5
    assert min(inside.values()) >= 93, inside


@pytest.mark.parametrize("law", [fixed, bimodal, engine])
def test_a_steady_engine_is_called_stable(law: Law) -> None:
    assert sum(assess(samples).stable is True for samples in runs(law)) >= 95


@pytest.mark.parametrize("law", [lognormal, pareto, correlated])
def test_a_wide_distribution_is_taken_for_noise_at_most(law: Law) -> None:
    assert sum(assess(samples).kind in {"", "noise"} for samples in runs(law)) >= 95


@pytest.mark.parametrize("law", [fixed, bimodal, engine])
@pytest.mark.parametrize("total", [0.1, 0.2, -0.2])
def test_drift_is_flagged(law: Law, total: float) -> None:
    moving = drifting(law, total, CALLS)
    kinds = Counter(assess(measured([moving], s, ROUNDS)[0]).kind for s in range(TRIALS))
    assert kinds["drift"] >= 95, kinds


@pytest.mark.parametrize(
    ("law", "by", "at"),
    [(fixed, 0.3, 0.5), (bimodal, 0.3, 0.5), (engine, 0.15, 0.5), (engine, 0.3, 0.8)],
)
def test_throttling_is_flagged_as_a_step(law: Law, by: float, at: float) -> None:
    hot = throttled(law, by, int(at * CALLS))
    kinds = Counter(assess(measured([hot], s, ROUNDS)[0]).kind for s in range(TRIALS))
    assert kinds["step"] >= 95, kinds


def test_throttling_is_flagged_in_wide_noise_too() -> None:
    hot = throttled(lognormal, 0.3, CALLS // 2)
    assert sum(not assess(measured([hot], s, ROUNDS)[0]).stable for s in range(TRIALS)) >= 95


@pytest.mark.parametrize("law", [fixed, bimodal, engine])
def test_an_engine_against_itself_shows_no_difference(law: Law) -> None:
    verdicts = Counter(compare(*measured([law, law], s, ROUNDS)).verdict for s in range(TRIALS))
    assert verdicts["same"] >= 95, verdicts


@pytest.mark.parametrize("law", [fixed, bimodal, engine])
@pytest.mark.parametrize("factor", [1.05, 1 / 1.05])
def test_five_percent_are_found(law: Law, factor: float) -> None:
    wanted = "slower" if factor > 1 else "faster"
    pairs = [measured([law, slower(law, factor)], seed, ROUNDS) for seed in range(TRIALS)]
    verdicts = Counter(compare(*pair).verdict for pair in pairs)
    assert verdicts[wanted] >= 95, verdicts


def test_five_percent_are_found_while_the_machine_drifts() -> None:
    """Both share the rounds, so a drift of a half does not hide a difference of a twentieth."""
    verdicts: Counter[str] = Counter()
    for seed in range(TRIALS):
        slow = drifting(slower(engine, 1.05), 0.5, CALLS)
        fast = drifting(engine, 0.5, CALLS)
        verdicts[compare(*measured([slow, fast], seed, ROUNDS)).verdict] += 1
    assert verdicts["faster"] >= 95, verdicts


@pytest.mark.parametrize("law", [lognormal, correlated])
def test_wide_noise_is_not_taken_for_a_difference(law: Law) -> None:
    verdicts = Counter(compare(*measured([law, law], s, ROUNDS)).verdict for s in range(TRIALS))
    assert verdicts["same"] + verdicts["unclear"] >= 93, verdicts
