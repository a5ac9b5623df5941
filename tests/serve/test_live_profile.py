from __future__ import annotations

import time

import numpy as np
import pytest

from edgekit.serve.live_profile import live_profile
from edgekit.serve.statistics import STAGES, Stages, Statistics


def statistics(count: int, age: float = 0.0) -> Statistics:
    """Of requests whose stages take 1, 2, 3 ... microseconds, times their number."""
    made = Statistics()
    for number in range(1, count + 1):
        taken = {stage: 1000 * number * (i + 1) for i, stage in enumerate(STAGES)}
        made.recent.append((time.monotonic() - age, Stages(**taken, batch=2)))
    return made


def test_each_stage_is_told_in_microseconds() -> None:
    told = live_profile(statistics(700), last=1000, seconds=10)["requests"]
    right = np.arange(1, 701)
    for place, stage in enumerate(STAGES):
        row = told["stages"][stage]
        assert row["count"] == 700
        assert row["mean"] == pytest.approx(right.mean() * (place + 1))
        assert row["p50"] == pytest.approx(np.percentile(right, 50) * (place + 1))
        assert row["p99"] == pytest.approx(np.percentile(right, 99) * (place + 1))
    assert told["total"]["mean"] == pytest.approx(right.mean() * 21)
    assert told["overhead"]["mean"] == pytest.approx(right.mean() * 17)
    assert told["mean_batch"] == 2
    assert told["notes"] == {}


@pytest.mark.parametrize(
    ("count", "known"), [(10, []), (11, [50]), (64, [50, 90]), (661, [50, 90]), (662, [50, 90, 99])]
)
def test_a_percentile_of_too_few_requests_is_null_and_says_why(
    count: int, known: list[int]
) -> None:
    told = live_profile(statistics(count), last=1000, seconds=10)["requests"]
    for share in (50, 90, 99):
        assert (told["total"][f"p{share}"] is not None) == (share in known)
        assert (f"p{share}" in told["notes"]) == (share not in known)
    if count < 662:
        assert told["notes"]["p99"].startswith(f"{count} requests, 662 are needed")


def test_the_last_requests_and_the_last_seconds_are_apart() -> None:
    kept = statistics(100, age=60)
    kept.recent.extend(statistics(20).recent)
    told = live_profile(kept, last=50, seconds=10)
    assert told["requests"]["count"] == 50
    assert told["recent"]["count"] == 20
    assert told["recent"]["requests_per_s"] == pytest.approx(2)


def test_a_rate_is_right_when_more_came_than_are_kept() -> None:
    kept = statistics(5000, age=2.0)
    told = live_profile(kept, last=10, seconds=10)["recent"]
    assert told["count"] == 4096
    assert told["requests_per_s"] == pytest.approx(2048, rel=0.05)


def test_nothing_yet_is_null_and_not_zero() -> None:
    told = live_profile(Statistics(), last=10, seconds=10)["requests"]
    assert told["count"] == 0
    assert told["total"]["mean"] is None
    assert told["mean_batch"] is None
