"""Warm-up ends when latencies are stable, or at its limit, and says which."""

from __future__ import annotations

import numpy as np

from edgekit.profile.warmup import warm_up
from tests.profile.synthetic import FakeClock, Law, SyntheticSession, engine, fixed, measured


def _cooling(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    """Starts at four times its level and settles within some fifty calls."""
    return engine(generator, calls) * (1 + 3 * np.exp(-calls / 20))


def _never(_: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    return np.minimum(1.1**calls, 1e5)


def _warmed(law: Law, limit: float = 5.0, seed: int = 0) -> tuple[int, bool, float]:
    clock = FakeClock()
    session = SyntheticSession(law, clock, seed)
    found = warm_up(lambda: session.run({"x": np.zeros(1)}), clock, limit)
    assert found.seconds == (clock.now - 1_000_000) / 1e9
    return found.calls, found.steady, found.seconds


def test_a_steady_engine_warms_up_in_three_windows() -> None:
    assert _warmed(fixed) == (30, True, 0.06)


def test_it_lasts_until_a_slow_start_is_over() -> None:
    for seed in range(100):
        calls, steady, _ = _warmed(_cooling, seed=seed)
        assert steady
        assert 40 <= calls <= 400


def test_the_limit_ends_it_and_is_told() -> None:
    _, steady, seconds = _warmed(_never, limit=1.0)
    assert not steady
    assert 1.0 <= seconds < 1.5


def test_slow_inferences_are_warmed_up_by_few_calls() -> None:
    calls, steady, _ = _warmed(lambda _, calls: np.full(len(calls), 2000.0), limit=100.0)
    assert (calls, steady) == (9, True)


def test_the_runner_records_how_it_ended() -> None:
    (samples,) = measured([_cooling], seed=0, rounds=20, warmup=None)
    assert samples.warm_up is not None
    assert samples.warm_up.steady
    assert samples.warmup == samples.warm_up.calls >= 40
    (samples,) = measured([_cooling], seed=0, rounds=20, warmup=7)
    assert (samples.warmup, samples.warm_up) == (7, None)


def test_all_warm_ups_together_take_a_quarter_of_the_run_at_most() -> None:
    found = measured([_never, _never], seed=0, rounds=20, warmup=None)
    for samples in found:
        assert samples.warm_up is not None
        assert 60 / 4 / 2 <= samples.warm_up.seconds < 60 / 4 / 2 * 1.5
