"""Requests that are not answered yet: what has to end before something is closed."""

from __future__ import annotations

import asyncio

from edgekit.serve.statistics import Statistics

__all__ = ["UnderWay"]


class UnderWay:
    """Counts requests in :attr:`Statistics.pending`: each is a ``with`` block."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._quiet = asyncio.Event()

    def __enter__(self) -> None:
        self._statistics.pending += 1

    def __exit__(self, *_: object) -> None:
        self._statistics.pending -= 1
        if not self._statistics.pending:
            self._quiet.set()

    async def none(self) -> None:
        """Wait until there is none."""
        while self._statistics.pending:
            self._quiet.clear()
            await self._quiet.wait()
