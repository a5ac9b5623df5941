from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.profile.samples import Samples
from edgekit.profile.stats import (
    Comparison,
    _medians,
    compare,
    least_samples,
    percentile,
    summarize,
)

_UNCLEAR = "no difference between b and a beyond the noise (0.90 to 1.20)"

latencies = st.lists(st.integers(1, 10**10), min_size=1, max_size=200)


def samples(values: list[int], run: str = "r", block: int = 1) -> Samples:
    return Samples(
        artifact="a",
        runtime="onnxruntime",
        run=run,
        shapes={"x": (1,)},
        threads=1,
        warmup=0,
        block=block,
        latencies_ns=tuple(values),
        machine=this_machine(),
        started="2026-01-01T00:00:00+00:00",
    )


@given(latencies, st.floats(0, 100))
def test_percentile_is_numpy_linear(values: list[int], share: float) -> None:
    assert percentile(values, share) == pytest.approx(float(np.percentile(values, share)))


@given(latencies)
def test_summary_is_in_order(values: list[int]) -> None:
    found = summarize(samples(values))
    tolerance = 1e-9 * found.highest
    assert found.lowest <= found.p50 + tolerance
    assert found.p50 <= found.p90 + tolerance
    assert found.p90 <= found.p99 + tolerance
    assert found.p99 <= found.highest + tolerance
    assert found.count == len(values)


@pytest.mark.parametrize(("share", "count"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_least_samples_are_those_of_mlperf_early_stopping(share: float, count: int) -> None:
    assert least_samples(share) == count


def test_p99_is_marked_when_there_are_too_few_samples() -> None:
    assert not summarize(samples([1] * 661)).p99_supported
    assert summarize(samples([1] * 662)).p99_supported


@given(st.floats(1.5, 4.0))
def test_a_clear_gain_has_an_interval_above_one(gain: float) -> None:
    noise = np.random.default_rng(0).uniform(0.95, 1.05, (2, 400)) * 1e6
    found = compare(
        samples([int(v * gain) for v in noise[0]], block=4),
        samples([int(v) for v in noise[1]], block=4),
    )
    assert 1.0 < found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(gain, rel=0.1)


def test_no_gain_has_an_interval_that_holds_one() -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (2, 400)) * 1e6
    found = compare(*(samples([int(v) for v in row], block=4) for row in noise))
    assert found.low <= 1.0 <= found.high


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_medians_of_resamples_are_those_of_resamples_that_are_made(
    values: list[int], block: int, stretch: int, seed: int
) -> None:
    units = [values[at : at + block * stretch] for at in range(0, len(values), block * stretch)]
    even = np.full(len(units), 1 / len(units))
    counts = np.random.default_rng(seed).multinomial(len(units), even, 5)
    made = [
        np.median([value for unit, often in zip(units, row, strict=True) for value in unit * often])
        for row in counts
    ]
    np.testing.assert_array_equal(_medians(samples(values, block=block), stretch, counts), made)


def test_a_drift_of_the_machine_does_not_widen_the_interval() -> None:
    drift = np.linspace(1e6, 3e6, 200)
    found = compare(samples([int(2 * v) for v in drift]), samples([int(v) for v in drift]))
    assert found.ratio == pytest.approx(2.0, rel=0.01)
    assert found.high - found.low < 0.2


def test_samples_of_different_runs_are_not_compared() -> None:
    with pytest.raises(EdgekitError, match="same interleaved run"):
        compare(samples([1, 2]), samples([1, 2], run="other"))


def test_outliers_are_counted_and_kept() -> None:
    found = summarize(samples([1_000_000, 1_010_000] * 50 + [9_000_000] * 3))
    assert (found.outliers, found.highest) == (3, 9.0)
    assert found.outlier_limit == pytest.approx(1.01 + 10 * 0.01)
    assert found.mean > 1.2
    assert summarize(samples([1_000_000] * 100)).outliers == 0


def test_artifacts_with_blocks_of_different_length_are_compared_round_by_round() -> None:
    drift = np.linspace(1e6, 3e6, 200)
    found = compare(
        samples([int(2 * v) for v in drift for _ in range(8)], block=8),
        samples([int(v) for v in drift for _ in range(4)], block=4),
    )
    assert found.ratio == pytest.approx(2.0, rel=0.01)
    assert found.high - found.low < 0.2
    with pytest.raises(EdgekitError, match="same interleaved run"):
        compare(samples([1] * 8, block=2), samples([1] * 8, block=4))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Comparison(1.05, 1.03, 1.07), "b is 1.05x as fast as a (1.03 to 1.07)"),
        (Comparison(0.95, 0.93, 0.97), "b is 0.95x as fast as a (0.93 to 0.97)"),
        (Comparison(1.0, 0.99, 1.01), "no difference between b and a (0.99 to 1.01)"),
        (Comparison(1.01, 1.005, 1.015), "no difference between b and a (1.00 to 1.01)"),
        (
            Comparison(1.1, 0.9, 1.2),
            "no difference between b and a beyond the noise (0.90 to 1.20)",
        ),
    ],
)
def test_a_comparison_is_told_in_words(found: Comparison, words: str) -> None:
    assert found.words("b", "a") == words
