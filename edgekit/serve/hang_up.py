"""Work for a client, cancelled when the client hangs up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from edgekit.serve.http_body import ClientGoneError, Receive

__all__ = ["HangUps"]

#: Seconds after which it is worth looking whether a client is still there.
_PATIENCE = 0.02

_T = TypeVar("_T")


class HangUps:
    """Looks after the clients of all requests under way, with one timer for all of them.

    It begins to look only after a while: most requests are answered sooner than a task, or even a
    timer, is made.
    """

    def __init__(self) -> None:
        self._watches: dict[_Watch, None] = {}  # in order of their age
        self._ticking = False

    async def unless_gone(self, work: Awaitable[_T], receive: Receive) -> _T:
        """The result of ``work``, cancelled when the client hangs up.

        Raises:
            ClientGoneError: it did.
        """
        watch = _Watch(receive)
        self._watches[watch] = None
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_PATIENCE, self._tick)
        try:
            return await work
        except asyncio.CancelledError:
            if watch.gone:
                raise ClientGoneError from None
            raise
        finally:
            self._watches.pop(watch, None)
            watch.stop()

    def _tick(self) -> None:
        """Begin to look at those who wait for long, and come back while there are others."""
        due = time.monotonic() - _PATIENCE / 2
        for watch in list(self._watches):
            if watch.since > due:
                break
            del self._watches[watch]
            watch.start()
        self._ticking = bool(self._watches)
        if self._ticking:
            asyncio.get_running_loop().call_later(_PATIENCE, self._tick)


class _Watch:
    """Cancels the task that made it when its client hangs up."""

    __slots__ = ("_looking", "_receive", "_waiting", "gone", "since")

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self.since = time.monotonic()
        self._receive = receive
        self._waiting = asyncio.current_task()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._waiting is not None:
            self._waiting.cancel()
