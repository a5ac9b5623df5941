from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.security.limit import TokenBucket

RATES = st.floats(0.01, 1e5)
BURSTS = st.integers(1, 100)
GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=200)


def _moments(gaps: list[float]) -> list[float]:
    moments, now = [], 1000.0
    for gap in gaps:
        now += gap
        moments.append(now)
    return moments


@given(RATES, BURSTS, GAPS)
def test_no_window_has_more_than_the_burst_and_what_its_length_allows(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    granted = [now for now in _moments(gaps) if bucket.take(now) == 0.0]
    for first, begin in enumerate(granted):
        for count, end in enumerate(granted[first:], start=1):
            assert count <= burst + (end - begin) * rate * (1 + 1e-9) + 1e-6


@given(RATES, BURSTS, GAPS)
def test_what_a_counting_bucket_would_grant_is_granted(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket, level, last = TokenBucket(rate, burst), float(burst), 1000.0
    for now in _moments(gaps):
        level, last = min(burst, level + (now - last) * rate), now
        wait = bucket.take(now)
        if abs(level - 1) > 1e-6 * max(1.0, rate):  # else rounding decides
            assert (wait == 0.0) == (level >= 1)
        if wait == 0.0:
            level -= 1


@given(RATES, BURSTS, GAPS)
def test_who_waits_as_long_as_told_is_served_and_not_before(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket, now = TokenBucket(rate, burst), 0.0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        if wait > 1e-6:
            assert bucket.take(now + wait / 2) > 0
            now += wait + 1e-9
            assert bucket.take(now) == 0.0


def test_a_burst_comes_at_once_and_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert bucket.take(0.5) == 0.0
