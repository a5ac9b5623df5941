"""Engines of known latency distributions, which advance a clock of their own and wait for none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from edgekit.runtimes import Session

from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.spec import Feeds, Outputs, TensorSpec

#: Latencies of calls (their numbers given) in milliseconds.
Law = Callable[[np.random.Generator, np.ndarray], np.ndarray]

FEEDS: Feeds = {"x": np.zeros(1, np.float32)}
_DRAWN = 4096


class FakeClock:
    """Nanoseconds that pass only when an engine takes them."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


class SyntheticSession(Session):
    """Takes what its law says, and computes nothing."""

    inputs = outputs = (TensorSpec("x", "float32", (1,)),)

    def __init__(self, law: Law, clock: FakeClock, seed: int | Sequence[int]) -> None:
        self._clock = clock
        self._latencies = self._drawn(law, np.random.default_rng(seed))

    @staticmethod
    def _drawn(law: Law, generator: np.random.Generator) -> Iterator[int]:
        parts = (law(generator, np.arange(_DRAWN) + i * _DRAWN) for i in count())
        return chain.from_iterable((part * 1e6).astype(int).tolist() for part in parts)

    def run(self, feeds: Feeds, out: Outputs | None = None) -> Outputs:
        """Without the checks around it: a hundred thousand calls a test."""
        return self._run_into(feeds, out) if out else self._run(feeds)

    def _run(self, feeds: Feeds) -> Outputs:
        self._clock.now += next(self._latencies)
        return {"x": feeds["x"]}

    def _release(self) -> None:
        pass


def measured(
    laws: Sequence[Law], seed: int, rounds: int = 250, warmup: int | None = 0
) -> list[Samples]:
    """One interleaved run of such engines by the real runner, without waiting."""
    clock = FakeClock()
    entries = [
        Timed(str(i), "synthetic", SyntheticSession(law, clock, [seed, i]))
        for i, law in enumerate(laws)
    ]
    limits: dict[str, Any] = {"min_rounds": rounds, "max_rounds": rounds, "max_seconds": 60.0}
    return profile_interleaved(entries, FEEDS, threads=1, warmup=warmup, clock=clock, **limits)


def fixed(_: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    return np.full(len(calls), 2.0)


def bimodal(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    """Seven of ten calls take about 2 ms, the rest about 3 ms."""
    fast = generator.random(len(calls)) < 0.7
    return np.where(fast, 2.0, 3.0) + generator.uniform(-0.05, 0.05, len(calls))


def lognormal(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    return 2.0 * np.exp(0.5 * generator.standard_normal(len(calls)))


def pareto(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    """Such a heavy tail that its variance is infinite."""
    return 2.0 * (1.0 - generator.random(len(calls))) ** (-1 / 1.5)


def correlated(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    """Lognormal, and each call like the one before: a first-order autoregression of 0.7."""
    noise = generator.standard_normal(len(calls))
    values = np.empty(len(calls))
    values[0] = noise[0]
    for i in range(1, len(calls)):
        values[i] = 0.7 * values[i - 1] + math.sqrt(1 - 0.7**2) * noise[i]
    return 2.0 * np.exp(0.5 * values)


def engine(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    """What real ones look like: a narrow peak, a tail of interruptions."""
    values = 2.0 * np.exp(0.03 * generator.standard_normal(len(calls)))
    late = generator.random(len(calls)) < 0.02
    return values + np.where(late, generator.exponential(4.0, len(calls)), 0.0)


def slower(law: Law, factor: float) -> Law:
    return lambda generator, calls: factor * law(generator, calls)


def drifting(law: Law, total: float, over: int) -> Law:
    """Slower by ``total`` (0.2: 20 %) at call number ``over``, in a straight line."""
    return lambda generator, calls: law(generator, calls) * (1 + total * calls / over)


def throttled(law: Law, by: float, at: int) -> Law:
    """Slower by ``by`` from call number ``at`` on."""
    return lambda generator, calls: law(generator, calls) * np.where(calls < at, 1.0, 1.0 + by)
