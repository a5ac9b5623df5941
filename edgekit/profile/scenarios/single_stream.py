"""Single-stream: a person waits for each answer. Judged by the 90th percentile of latency."""

from __future__ import annotations

from typing import ClassVar

from edgekit.profile.scenarios.closed_loop import ClosedLoop

__all__ = ["SingleStream"]


class SingleStream(ClosedLoop):
    """One sample a query."""

    __slots__ = ()
    name: ClassVar[str] = "single-stream"
    samples: ClassVar[int] = 1
    share: ClassVar[float] = 0.9
