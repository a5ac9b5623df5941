"""The verdict on a run, in words with figures. How often it is right: test_known_distributions."""

from __future__ import annotations

import numpy as np

from edgekit.profile.samples import Conditions, WarmUp
from edgekit.profile.stability import assess
from tests.profile.synthetic import drifting, engine, lognormal, measured, throttled

_HOT = Conditions(
    steal=0.04, others=0.3, preempted=120.0, mhz=(2200.0, 3100.0), celsius=(61.0, 84.0), throttled=7
)


def test_a_drift_is_told_with_its_size_and_time() -> None:
    (samples,) = measured([drifting(engine, 0.2, 1250)], seed=1)
    quiet = samples.model_copy(update={"conditions": None})
    assert assess(quiet).words == "unstable: p50 rose by 20% between 0.0 s and 2.8 s"
    assert assess(quiet).kind == "drift"


def test_throttling_is_told_with_what_the_machine_says() -> None:
    (samples,) = measured([throttled(engine, 0.3, 625)], seed=1)
    hot = samples.model_copy(update={"conditions": _HOT})
    assert assess(hot).words == (
        "unstable: p50 rose by 30% at 1.3 s and stayed there; the processor throttled 7 times, "
        "clock between 2.2 and 3.1 GHz, from 61 to 84 °C, steal 4%, other processes 30%, "
        "preempted 120 times a second"
    )


def test_a_disturbance_that_ends_is_told_with_its_time() -> None:
    def disturbed(generator: np.random.Generator, calls: np.ndarray) -> np.ndarray:
        slow = (calls > 500) & (calls < 700)
        return engine(generator, calls) * np.where(slow, 1.6, 1.0)

    found = assess(measured([disturbed], seed=0)[0])
    assert found.kind == "stretch"
    assert "p50 was 61% higher between 1.0 s and 1.7 s" in found.words


def test_noise_without_a_trend_is_told_as_noise() -> None:
    wide = (assess(measured([lognormal], seed, rounds=40)[0]) for seed in range(100))
    (found, *_) = [one for one in wide if one.kind == "noise"]
    assert not found.stable
    assert "too few samples for so much noise" in found.words


def test_a_stable_run_is_told_in_a_word_and_keeps_what_else_happened() -> None:
    (samples,) = measured([engine], seed=0)
    found = assess(samples.model_copy(update={"conditions": _HOT}))
    assert found.words == "stable"
    assert "steal 4%" in found.causes


def test_a_warm_up_that_was_cut_off_is_told() -> None:
    (samples,) = measured([drifting(engine, -0.3, 1250)], seed=0)
    cut = WarmUp(calls=10, seconds=1.25, steady=False)
    found = assess(samples.model_copy(update={"warm_up": cut, "conditions": None}))
    assert "p50 fell by" in found.words
    assert found.words.endswith("not yet steady after 1.2 s of warm-up")


def test_a_short_run_is_not_judged() -> None:
    (samples,) = measured([engine], seed=0, rounds=20)
    found = assess(samples.model_copy(update={"conditions": None}))
    assert found.stable is None
    assert found.words == "not judged: 80 of 96 samples"


def test_samples_of_before_the_starts_were_kept_are_judged_too() -> None:
    (samples,) = measured([throttled(engine, 0.3, 625)], seed=1)
    old = samples.model_copy(update={"starts_ns": (), "conditions": None})
    assert assess(old).words == "unstable: p50 rose by 30% at 50% of the run and stayed there"
