"""Multi-stream: a frame of each of eight cameras. Judged by the 99th percentile of latency."""

from __future__ import annotations

from typing import ClassVar

from edgekit.profile.scenarios.closed_loop import ClosedLoop

__all__ = ["MultiStream"]


class MultiStream(ClosedLoop):
    """Eight samples a query, which is answered with the last of them."""

    __slots__ = ()
    name: ClassVar[str] = "multi-stream"
    samples: ClassVar[int] = 8
    share: ClassVar[float] = 0.99
