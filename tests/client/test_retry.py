from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.client.retry import Retry


def busy(retry_after: str | None = None, status: int = 503) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers, json={"error": "said by the server itself"})


@given(st.integers(1, 60), st.floats(1e-3, 10), st.floats(1, 100))
def test_waits_grow_up_to_the_longest(tried: int, first: float, longest: float) -> None:
    wait = Retry(retries=60, first=first, longest=longest).wait(tried, busy())
    assert wait is not None
    assert 0 <= wait <= min(longest, first * 2**tried)


def test_clients_that_were_turned_away_together_do_not_come_back_together() -> None:
    waits = {Retry().wait(1, busy("1")) for _ in range(20)}
    assert len(waits) > 1
    assert all(wait is not None and 1 <= wait <= 1.1 for wait in waits)


@pytest.mark.parametrize(
    "status", [200, 301, 400, 401, 403, 404, 408, 413, 415, 500, 501, 502, 504]
)
def test_only_busy_servers_are_asked_again(status: int) -> None:
    assert Retry().wait(1, busy(status=status)) is None
    assert Retry().wait(1, busy(status=429)) is not None


@pytest.mark.parametrize("status", [500, 502])
def test_a_proxy_that_lost_its_server_is_asked_again(status: int) -> None:
    assert Retry().wait(1, httpx.Response(status, text="Internal Server Error")) is not None


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (httpx.ConnectError, True),
        (httpx.ConnectTimeout, True),
        (httpx.ReadError, True),
        (httpx.WriteError, True),
        (httpx.RemoteProtocolError, True),
        (httpx.ReadTimeout, False),
        (httpx.UnsupportedProtocol, False),
        (httpx.DecodingError, False),
    ],
)
def test_only_broken_connections_are_tried_again(
    error: type[httpx.RequestError], again: bool
) -> None:
    assert (Retry().wait(1, error("x")) is not None) is again


def test_after_the_last_try_there_is_none() -> None:
    assert Retry(retries=2).wait(2, busy()) is not None
    assert Retry(retries=2).wait(3, busy()) is None
    assert Retry(retries=0).wait(1, busy()) is None


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    wait = Retry().wait(1, busy(soon))
    assert wait is not None
    assert 18 < wait < 21
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    wait = Retry().wait(1, busy(past))
    assert wait is not None
    assert wait <= 0.2


def test_a_server_that_wants_longer_than_the_longest_wait_is_not_waited_for() -> None:
    assert Retry(longest=5).wait(1, busy("6")) is None


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_header_is_understood_or_ignored(text: str) -> None:
    response = httpx.Response(503, headers=[(b"retry-after", text.encode("latin-1"))])
    wait = Retry().wait(1, response)
    assert wait is None or wait >= 0
