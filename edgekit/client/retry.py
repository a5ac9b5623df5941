"""Which failures are worth another try, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

__all__ = ["Outcome", "Retry"]

#: What became of a request: an answer, or the reason why there is none.
Outcome = httpx.Response | httpx.RequestError

_BUSY = frozenset({429, 503})
#: What a proxy says when the server behind it died, Ray Serve's among them. An inference changes
#: nothing, so it can be asked again. A server's own 500 tells of a broken engine, in JSON.
_LOST = frozenset({500, 502})
#: The connection was refused or broke. A server that only takes long is not asked again: it would
#: have the same work twice.
_BROKEN = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off with full jitter.

    Attributes:
        retries: tries after the first one.
        first: mean seconds before the second try; it doubles from try to try.
        longest: most seconds before any try, also where the server says more.
    """

    retries: int = 3
    first: float = 0.1
    longest: float = 30.0

    def wait(self, tried: int, outcome: Outcome) -> float | None:
        """Seconds until the next try; None when there should be none.

        A server's ``Retry-After`` is kept to, and some jitter added: clients that were turned away
        together shall not come back together.

        Args:
            tried: tries so far, at least one.
            outcome: of the last one.
        """
        if tried > self.retries or not _worth_it(outcome):
            return None
        jitter = random.uniform(0, min(self.longest, 2 * self.first * 2 ** (tried - 1)))  # noqa: S311
        asked = _retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if asked is None:
            return jitter
        return asked + min(jitter, self.first) if asked <= self.longest else None


def _worth_it(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        told = outcome.headers.get("Content-Type", "").startswith("application/json")
        return outcome.status_code in _BUSY or (outcome.status_code in _LOST and not told)
    return isinstance(outcome, _BROKEN)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds in the header: a number, or a date (RFC 9110, 10.2.3); None without a valid one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
