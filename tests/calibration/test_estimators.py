from __future__ import annotations

import numpy as np
import pytest
from edgekit.calibration import (
    ESTIMATORS,
    Estimator,
    MinMaxObserver,
    Observer,
    PercentileObserver,
    Range,
)
from edgekit.calibration.entropy import EntropyObserver, entropy_threshold
from edgekit.calibration.moving_average import MovingAverageObserver
from edgekit.calibration.mse import MseObserver
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

finite = st.floats(-1e6, 1e6, width=32)
values = arrays(np.float32, st.integers(1, 200), elements=finite)
streams = st.lists(values, min_size=1, max_size=4)


def _seen(observer: Observer, batches: list[np.ndarray]) -> Range:
    for batch in batches:
        observer.update(batch)
    return observer.range()


@given(streams)
def test_min_max_is_the_range_of_all_batches(batches: list[np.ndarray]) -> None:
    found = _seen(MinMaxObserver(), batches)
    together = np.concatenate(batches)
    assert (found.low, found.high) == (together.min(), together.max())


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=50)
@given(batches=streams)
def test_every_estimate_lies_inside_what_was_seen(name: str, batches: list[np.ndarray]) -> None:
    found = _seen(Estimator(name=name, percentile=99.0).observer(), batches)
    together = np.concatenate(batches)
    assert together.min() <= found.low <= found.high <= together.max()


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("constant", [0.0, 1.0, -3.0, 5.5, 1e-40, -1e30])
def test_a_constant_tensor_is_its_own_range(name: str, constant: float) -> None:
    value = np.float32(constant)
    found = _seen(Estimator(name=name).observer(), [np.full((2, 3), value)] * 3)
    assert found.low == pytest.approx(float(value))
    assert found.high == pytest.approx(float(value))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_single_value_is_enough(name: str) -> None:
    found = _seen(Estimator(name=name).observer(), [np.array(2.5, np.float32)])
    assert found.low == pytest.approx(2.5)
    assert found.high == pytest.approx(2.5)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_state_does_not_grow_with_the_stream(name: str) -> None:
    observer = Estimator(name=name).observer()
    batch = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    observer.update(batch)

    def size() -> int:
        states = [vars(observer), vars(getattr(observer, "histogram", observer))]
        return sum(v.nbytes for state in states for v in state.values() if hasattr(v, "nbytes"))

    before = size()
    for _ in range(50):
        observer.update(batch * 3)
    assert size() == before


def test_the_moving_average_is_the_one_done_by_hand() -> None:
    observer = MovingAverageObserver(momentum=0.5)
    for low, high in ((-1.0, 2.0), (-3.0, 4.0), (-2.0, 10.0)):
        observer.update(np.array([low, 0.0, high], np.float32))
    # the first two count alike; from then on the past weighs one half
    assert observer.range().low == pytest.approx(((-1 - 3) / 2 - 2) / 2)
    assert observer.range().high == pytest.approx(((2 + 4) / 2 + 10) / 2)


def test_few_batches_are_averaged_evenly() -> None:
    observer = MovingAverageObserver()
    for high in (1.0, 2.0, 6.0):
        observer.update(np.array([0.0, high], np.float32))
    assert observer.range().high == pytest.approx(3.0)


def test_percentile_cuts_outliers_that_min_max_keeps() -> None:
    data = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    data[:3] = 1000.0
    assert _seen(MinMaxObserver(), [data]).high == 1000.0
    assert _seen(PercentileObserver(99.9), [data]).high < 10.0


def test_percentile_keeps_a_relu_zero_exactly() -> None:
    data = np.maximum(np.random.default_rng(0).standard_normal(10_000), 0.0)
    assert _seen(PercentileObserver(99.9), [data]).low == pytest.approx(0.0, abs=1e-3)


def test_a_percentile_of_100_keeps_everything() -> None:
    data = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = _seen(PercentileObserver(100.0), [data])
    assert (found.low, found.high) == (data.min(), data.max())


def test_an_empty_batch_changes_nothing() -> None:
    observer = MinMaxObserver()
    observer.update(np.zeros((0, 3), np.float32))
    assert observer.count == 0


def _tensorrt_threshold(counts: np.ndarray) -> tuple[int, dict[int, float]]:
    """The procedure of Migacz's slides, bin by bin, in plain Python floats."""
    used = max((i for i, count in enumerate(counts) if count), default=len(counts) - 1) + 1
    counts = [0.0, *map(float, counts[1:used])]  # zeros are exact at any threshold
    if used <= 128:
        return used, {}
    divergences = {}
    for bins in [*range(128, used, 16), used]:
        reference = counts[:bins]
        reference[-1] += sum(counts[bins:])
        merged = [[0.0, 0] for _ in range(128)]
        for i in range(bins):
            merged[i * 128 // bins][0] += counts[i]
            merged[i * 128 // bins][1] += counts[i] > 0
        candidate = [
            merged[i * 128 // bins][0] / merged[i * 128 // bins][1] if counts[i] > 0 else 0.0
            for i in range(bins)
        ]
        total_p, total_q = sum(reference), sum(candidate)
        if total_q == 0.0:
            divergences[bins] = float("inf")
            continue
        divergence = 0.0
        for p, q in zip(reference, candidate, strict=True):
            if p > 0:
                divergence += p / total_p * np.log(p / total_p / max(q / total_q, 1e-12))
        divergences[bins] = float(divergence)
    return min(divergences, key=divergences.__getitem__), divergences


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["laplace", "relu", "gaps", "outliers", "uniform"]),
    st.integers(100, 700),
)
def test_the_entropy_threshold_is_that_of_a_plain_loop(seed: int, shape: str, bins: int) -> None:
    generator = np.random.default_rng(seed)
    draws = np.abs(generator.laplace(size=20_000))
    if shape == "outliers":
        draws[:20] *= 10
    counts = np.histogram(draws, bins=bins)[0]
    if shape == "relu":
        counts[0] += 30_000
    elif shape == "gaps":
        counts[generator.random(bins) < 0.7] = 0
    elif shape == "uniform":
        counts = generator.integers(0, 50, bins)
    expected, divergences = _tensorrt_threshold(counts)
    found = entropy_threshold(counts)
    if found != expected:  # a tie down to rounding may go either way
        assert divergences[found] == pytest.approx(divergences[expected], rel=1e-9, abs=1e-12)


def test_entropy_cuts_a_rare_outlier() -> None:
    data = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    data[0] = 500.0
    assert _seen(EntropyObserver(), [data]).high < 50.0


def _squared_error(data: np.ndarray, found: Range) -> float:
    """Of quantizing to 256 steps of that range, with zero on the grid: brute force in float64."""
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    step = (high - low) / 255
    if step == 0.0:
        return float(np.square(data, dtype=np.float64).sum())
    rounded = np.rint(np.clip(data.astype(np.float64), low, high) / step) * step
    return float(np.square(data - rounded).sum())


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "laplace", "relu", "skewed", "uniform"]),
    st.floats(1.0, 1000.0),
)
def test_the_mse_range_has_no_larger_error_than_the_others(
    seed: int, shape: str, outlier: float
) -> None:
    generator = np.random.default_rng(seed)
    data = {
        "normal": generator.standard_normal(5000),
        "laplace": generator.laplace(size=5000),
        "relu": np.maximum(generator.standard_normal(5000), 0),
        "skewed": generator.exponential(size=5000) - 0.3,
        "uniform": generator.uniform(-1, 3, 5000),
    }[shape].astype(np.float32)
    data[0] *= np.float32(outlier)
    own = _squared_error(data, _seen(MseObserver(), [data]))
    for other in (MinMaxObserver(), PercentileObserver(99.9), PercentileObserver(99.999)):
        # a histogram's bin stands for its values, and shares of the range are 2 % apart
        assert own <= 1.05 * _squared_error(data, _seen(other, [data]))


def test_the_mse_range_is_near_the_best_of_a_fine_grid() -> None:
    data = np.random.default_rng(3).laplace(size=8000).astype(np.float32)
    ends = np.linspace(0.1, 1.0, 60)
    best = min(
        _squared_error(data, Range(low=data.min() * a, high=data.max() * b))
        for a in ends
        for b in ends
    )
    assert _squared_error(data, _seen(MseObserver(), [data])) <= 1.05 * best
