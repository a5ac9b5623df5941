"""What each scenario offers and how it judges, on simulated targets: no real second passes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.profile.goals import parse_goal
from edgekit.profile.scenarios.arrivals import arrivals
from edgekit.profile.scenarios.base import MLPERF, Rules
from edgekit.profile.scenarios.multi_stream import MultiStream
from edgekit.profile.scenarios.offline import Offline
from edgekit.profile.scenarios.server import Server
from edgekit.profile.scenarios.single_stream import SingleStream
from tests.profile.scenarios.simulated import Simulated

MS = 10**6


def _server(target: str = "p99<10ms", seconds: float = 10, **options: float) -> Server:
    return Server(parse_goal(target, option="--target"), Rules(seconds), **options)


def test_single_stream_lasts_for_the_least_time_and_queries_both() -> None:
    outcome = SingleStream(Rules(10, 500)).run(Simulated(lambda _: MS)).outcome
    assert (outcome.valid, outcome.queries) == (True, 10_000)
    outcome = SingleStream(Rules(10, 500)).run(Simulated(lambda _: 50 * MS)).outcome
    assert (outcome.valid, outcome.queries, outcome.seconds) == (True, 500, 25)


def test_single_stream_is_judged_by_p90_and_its_bound() -> None:
    outcome = SingleStream(Rules()).run(Simulated(lambda n: (n % 100 + 1) * MS)).outcome
    assert outcome.metric == "p90 latency"
    assert outcome.value == pytest.approx(90, abs=1.5)
    assert outcome.bound is not None
    assert outcome.value < outcome.bound < 100


def test_a_slow_model_ends_with_too_few_queries_and_says_so() -> None:
    outcome = SingleStream(Rules(1)).run(Simulated(lambda _: 500 * MS)).outcome
    assert not outcome.valid
    assert outcome.reasons == ("12 queries, 64 are the least",)
    assert outcome.bound is None


def test_the_rules_of_mlperf_go_on_until_there_are_enough_queries() -> None:
    outcome = SingleStream(MLPERF).run(Simulated(lambda _: 20_000 * MS)).outcome
    assert (outcome.valid, outcome.queries, outcome.seconds) == (True, 64, 1280)
    assert outcome.short_of == ()


def test_a_shorter_run_says_what_mlperf_asks_for() -> None:
    outcome = SingleStream(Rules(10)).run(Simulated(lambda _: MS)).outcome
    assert outcome.short_of == ("MLPerf asks for 600 s, this run was made for 10 s",)


def test_multi_stream_asks_eight_samples_and_needs_662_queries() -> None:
    outcome = MultiStream(Rules(1)).run(Simulated(lambda _: MS)).outcome
    assert (outcome.valid, outcome.queries, outcome.samples) == (True, 662, 5296)
    assert (outcome.metric, outcome.value) == ("p99 latency", 8)


def test_offline_is_one_query_that_lasts_long_enough() -> None:
    outcome = Offline(Rules(10)).run(Simulated(lambda _: MS, streams=4)).outcome
    assert (outcome.valid, outcome.queries) == (True, 1)
    assert outcome.value == pytest.approx(4000)
    assert 10 <= outcome.seconds < 12


def test_a_short_offline_run_tells_how_many_samples_mlperf_asks_for() -> None:
    outcome = Offline(Rules(1)).run(Simulated(lambda _: MS)).outcome
    assert outcome.valid
    assert outcome.short_of[-1].startswith("MLPerf asks for 24576 samples, these were 1")


def test_offline_by_the_rules_of_mlperf_has_24576_samples() -> None:
    outcome = Offline(MLPERF).run(Simulated(lambda _: 1000 * MS)).outcome
    assert (outcome.valid, outcome.samples, outcome.short_of) == (True, 24_576, ())


def test_offline_that_runs_faster_the_second_time_is_asked_again() -> None:
    outcome = Offline(Rules(10)).run(Simulated(lambda n: MS if n < 9000 else MS // 3)).outcome
    assert outcome.valid
    assert outcome.seconds >= 10


@pytest.mark.parametrize("streams", [1, 4])
def test_the_server_scenario_finds_the_rate_that_queueing_theory_gives(streams: int) -> None:
    # M/D/c: below the rate that was found p99 is within the target for good, above it is not.
    target = Simulated(lambda _: 5 * MS, streams=streams)
    found = _server("p99<20ms", 100).run(target).outcome

    def p99(rate: float) -> float:
        due = arrivals(rate, int(rate * 600), seed=9)
        return float(np.percentile(target.open_loop(due).latencies, 99))

    assert found.valid
    assert p99(found.value * 0.98) < 20 * MS
    assert p99(found.value * 1.08) > 20 * MS


def test_the_server_scenario_holds_its_target_with_confidence() -> None:
    outcome = _server().run(Simulated(lambda _: MS)).outcome
    assert outcome.valid
    assert outcome.bound is not None
    assert outcome.latency is not None
    assert outcome.latency <= outcome.bound < 10
    assert outcome.tried[-1] == (outcome.value, True)


def test_a_target_below_the_latency_itself_is_never_held() -> None:
    outcome = _server("p99<1ms").run(Simulated(lambda _: 2 * MS)).outcome
    assert not outcome.valid
    assert "took longer than 1 ms" in " ".join(outcome.reasons)
    assert not any(held for _, held in outcome.tried)


def test_a_given_rate_is_offered_once() -> None:
    outcome = _server(rate=100.0).run(Simulated(lambda _: MS)).outcome
    assert (outcome.valid, outcome.value, outcome.tried) == (True, 100, ((100, True),))
    assert (outcome.queries, outcome.seconds) == (1000, pytest.approx(10, rel=0.01))


def test_a_dropped_query_makes_the_run_invalid_and_is_told_with_its_reason() -> None:
    target = Simulated(lambda _: MS, refuses={5: "answered 429", 7: "answered 429"})
    outcome = _server(rate=100.0).run(target).outcome
    assert not outcome.valid
    assert outcome.reasons == ("2 of 1000 queries were dropped (2 x answered 429)",)
    assert (outcome.dropped, outcome.lost) == (2, {"answered 429": 2})


def test_a_late_generator_makes_the_run_invalid() -> None:
    outcome = _server(rate=100.0).run(Simulated(lambda _: MS, late=2 * MS)).outcome
    assert outcome.late_ms == 2
    assert [reason[:35] for reason in outcome.reasons] == ["the load generator was late by 2000"]


def test_latency_counts_from_when_a_query_was_due() -> None:
    # One stall of a second: in a closed loop one query of a thousand, here all that came meanwhile.
    stall = Simulated(lambda n: 1000 * MS if n == 100 else MS)
    run = _server(rate=100.0).run(stall).run
    assert (run.latencies > 100 * MS).sum() == pytest.approx(100, abs=25)


def test_too_few_queries_for_the_percentile_are_not_enough() -> None:
    outcome = _server(seconds=1, rate=20.0).run(Simulated(lambda _: MS)).outcome
    assert not outcome.valid
    assert outcome.reasons == ("120 queries, 662 are the least",)
    assert outcome.bound is None


def test_the_same_seed_finds_the_same_rate() -> None:
    rates = {_server(seed=7).run(Simulated(lambda _: 3 * MS)).outcome.value for _ in range(2)}
    assert len(rates) == 1


@pytest.mark.parametrize(("target", "late"), [("p99<10ms", 1000), ("p99<=10ms", 0)])
def test_the_operator_of_the_target_decides_about_equal_latencies(target: str, late: int) -> None:
    enough = Simulated(lambda _: 10 * MS, streams=50)  # no query waits for another
    outcome = _server(target, rate=1.0).run(enough).outcome
    assert ("took longer" in " ".join(outcome.reasons)) == bool(late)
