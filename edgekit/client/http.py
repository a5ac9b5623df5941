"""The two clients: the same calls, driven with and without ``await``."""

from __future__ import annotations

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import wraps
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx

from edgekit.client.calls import Calls, Steps
from edgekit.client.retry import Outcome, Retry
from edgekit.closing import Closing

__all__ = ["AsyncClient", "Client"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)


def _blocking(
    call: Callable[Concatenate[Calls, _P], Steps[_T]],
) -> Callable[Concatenate[Client, _P], _T]:
    @wraps(call)
    def method(self: Client, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._run(call(self._calls, *args, **kwargs))

    return method


def _awaitable(
    call: Callable[Concatenate[Calls, _P], Steps[_T]],
) -> Callable[Concatenate[AsyncClient, _P], Awaitable[_T]]:
    @wraps(call)
    async def method(self: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(call(self._calls, *args, **kwargs))

    return method


class _Connected(ABC, Generic[_Http]):
    """What both clients are made with; see :class:`Client`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 3,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._calls = Calls(url, token, timeout, Retry(retries))
        # To read the system's certificates takes longer than many calls: only where they are used.
        context = tls or ssl.create_default_context() if self._calls.secure else None
        self._http: _Http = self._opened(context)

    @abstractmethod
    def _opened(self, context: ssl.SSLContext | None) -> _Http: ...


class Client(Closing, _Connected[httpx.Client]):
    """A server's models.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        token: bearer token, None for none.
        timeout: seconds without a byte until a try is given up.
        retries: tries after the first, when the connection breaks or the server is busy (429, 503).
        tls: certificates to trust and to show; None trusts those of the system.

    Raises:
        ClientError: the URL or the token is none.
    """

    infer = _blocking(Calls.infer)
    predict = _blocking(Calls.predict)
    metadata = _blocking(Calls.metadata)
    live = _blocking(Calls.live)
    ready = _blocking(Calls.ready)
    models = _blocking(Calls.models)
    load = _blocking(Calls.load)
    unload = _blocking(Calls.unload)
    statistics = _blocking(Calls.statistics)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _opened(self, context: ssl.SSLContext | None) -> httpx.Client:
        return httpx.Client(verify=context or False)

    def _run(self, steps: Steps[_T]) -> _T:
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: _T = done.value
                return result
            outcome = self._take(step)

    def _take(self, step: httpx.Request | float) -> Outcome | None:
        if isinstance(step, float):
            time.sleep(step)
            return None
        try:
            return self._http.send(step)
        except httpx.RequestError as error:
            return error


class AsyncClient(_Connected[httpx.AsyncClient]):
    """:class:`Client` for asyncio: the same arguments, and every method is to be awaited."""

    infer = _awaitable(Calls.infer)
    predict = _awaitable(Calls.predict)
    metadata = _awaitable(Calls.metadata)
    live = _awaitable(Calls.live)
    ready = _awaitable(Calls.ready)
    models = _awaitable(Calls.models)
    load = _awaitable(Calls.load)
    unload = _awaitable(Calls.unload)
    statistics = _awaitable(Calls.statistics)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _opened(self, context: ssl.SSLContext | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=context or False)

    async def _run(self, steps: Steps[_T]) -> _T:
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: _T = done.value
                return result
            outcome = await self._take(step)

    async def _take(self, step: httpx.Request | float) -> Outcome | None:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return None
        try:
            return await self._http.send(step)
        except httpx.RequestError as error:
            return error
