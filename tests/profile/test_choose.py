"""The best setting, on latencies of a known distribution."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import GateError, SpecError
from edgekit.machine import this_machine
from edgekit.profile.choose import choose, pareto, parse_aim
from edgekit.profile.figures import Measured, ratio
from edgekit.profile.records import Settings
from edgekit.profile.samples import Samples


def point(
    milliseconds: float,
    *,
    spread: float = 0.05,
    seed: int = 0,
    rounds: int = 200,
    run: str = "r",
    artifact: str = "onnxruntime-int8",
    **settings: int,
) -> Measured:
    """Inferences one after the other, log-normal around that median."""
    generator = np.random.default_rng(seed)
    values = milliseconds * 1e6 * generator.lognormal(0, spread, rounds * 4)
    samples = Samples(
        artifact=artifact,
        runtime="onnxruntime",
        run=run,
        shapes={"x": (1,)},
        threads=settings.get("threads"),
        warmup=1,
        block=4,
        latencies_ns=tuple(int(value) for value in values),
        machine=this_machine(),
        started="now",
    )
    return Measured(artifact, "onnxruntime", Settings(**settings), (samples,))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("latency", "p50"),
        ("p99", "p99"),
        ("throughput", "throughput"),
        ("throughput with p99<8ms", "throughput with p99<8ms"),
        ("p99.9 with throughput>100 and p50<2ms", "p99.9 with throughput>100 and p50<2ms"),
    ],
)
def test_an_aim_is_read(text: str, shown: str) -> None:
    assert str(parse_aim(text)) == shown


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("speed", "'speed' is no goal of a sweep"),
        ("p0", "no goal of a sweep"),
        ("throughput with drop<1", "judged by percentiles of its latency and by its throughput"),
        ("throughput with p99<8MB", "must be a memory|must be a time"),
        ("throughput with p99", "no goal"),
    ],
)
def test_what_is_no_aim_is_one_line(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse_aim(text)


def test_the_lowest_latency_wins() -> None:
    points = [point(2.0, threads=1), point(1.0, threads=2, seed=1), point(1.5, threads=4, seed=2)]
    choice = choose(points, parse_aim("latency"))
    assert choice.point.settings.threads == 2
    assert "the lowest latency" in choice.reason


def test_the_highest_throughput_within_a_latency_wins() -> None:
    points = [
        point(1.0, threads=1, batch=1),
        point(4.0, threads=1, batch=8, seed=1),
        point(20.0, threads=1, batch=64, seed=2),
    ]
    assert choose(points, parse_aim("throughput")).point.settings.batch == 64
    assert choose(points, parse_aim("throughput with p99<8ms")).point.settings.batch == 8


def test_what_noise_tells_apart_goes_to_the_cheaper_and_that_is_said() -> None:
    points = [point(1.0, threads=4, seed=3, spread=0.3), point(1.0, threads=1, spread=0.3)]
    choice = choose(points, parse_aim("latency"))
    assert choice.point.settings.threads == 1
    assert "no difference that counts" in choice.reason or "the lowest latency" in choice.reason


def test_two_percent_go_to_the_cheaper_however_sure_they_are() -> None:
    points = [point(1.0, threads=4, spread=0.001), point(1.015, threads=1, spread=0.001)]
    choice = choose(points, parse_aim("latency"))
    assert choice.point.settings.threads == 1
    assert "1 threads in all instead of 4" in choice.reason


def test_ten_percent_count_however_much_the_samples_vary() -> None:
    points = [
        point(1.0, threads=4, spread=2.0, rounds=20),
        point(5.0, threads=1, spread=2.0, rounds=20),
    ]
    assert choose(points, parse_aim("latency")).point.settings.threads == 4


def test_a_percentile_without_enough_samples_does_not_hold_a_limit() -> None:
    with pytest.raises(GateError, match="80 samples, p99 takes 662"):
        choose([point(1.0, rounds=20)], parse_aim("throughput with p99<8ms"))


def test_a_limit_that_none_holds_is_told_with_the_figures() -> None:
    with pytest.raises(
        GateError, match=r"no setting holds p50<1ms .*threads=1 batch=1: p50 2"
    ) as e:
        choose([point(2.0, threads=1)], parse_aim("throughput with p50<1ms"))
    assert e.value.exit_code == 1


def test_the_front_holds_what_no_other_beats() -> None:
    points = [
        point(1.0, batch=1),
        point(4.0, batch=8, seed=1),
        point(5.0, batch=4, seed=2),
    ]
    assert [p.settings.batch for p in pareto(points, 50)] == [1, 8]


@pytest.mark.parametrize("share", [50.0, 90.0, None])
@pytest.mark.parametrize("run", ["r", "other"])
def test_the_interval_of_a_ratio_holds_the_true_one(share: float | None, run: str) -> None:
    """A 95 % interval; 200 trials hold at least 180 in all but one case of a thousand."""
    held = 0
    for trial in range(200):
        slow = point(1.1, seed=2 * trial, rounds=100, run=run)
        found = ratio(slow, point(1.0, seed=2 * trial + 1, rounds=100), share)
        held += found.low <= (1.1 if share is not None else 1 / 1.1) <= found.high
    assert held >= 180


def test_a_mood_of_the_machine_that_hits_both_alike_cancels_out() -> None:
    mood = np.repeat(np.random.default_rng(0).lognormal(0, 0.5, 20), 40)

    def under(one: Measured) -> Measured:
        values = tuple(int(v) for v in np.asarray(one.samples[0].latencies_ns) * mood)
        samples = one.samples[0].model_copy(update={"latencies_ns": values})
        return Measured(one.artifact, one.runtime, one.settings, (samples,))

    paired = ratio(under(point(1.05, seed=1)), under(point(1.0, seed=2)), 50)
    assert paired.low > 1.02
    assert paired.high < 1.08
