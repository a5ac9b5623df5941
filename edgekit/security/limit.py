"""How often a token may be used."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """At most ``burst`` requests at once and ``rate`` a second in the long run.

    The generic cell rate algorithm (ITU-T I.371): the same grants as a bucket that holds ``burst``
    and gains ``rate`` a second, kept as one number, the time at which the bucket is full again.

    Args:
        rate: requests a second, above 0.
        burst: requests that may come at once, at least 1.
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._tolerance = (burst - 1) * self._interval
        self._full_at = float("-inf")

    def take(self, now: float) -> float:
        """Take one if there is one.

        Args:
            now: seconds on a clock that never goes back.

        Returns:
            0.0 when it was taken, else the seconds until there will be one.
        """
        full_at = max(self._full_at, now)
        wait = full_at - now - self._tolerance
        if wait > 0:
            return wait
        self._full_at = full_at + self._interval
        return 0.0
