"""A model behind HTTP: the Open Inference Protocol with binary tensors."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import httptools
import orjson

from edgekit.client.codec import encode
from edgekit.profile.targets.remote import Dropped, Remote
from edgekit.spec import Feeds

__all__ = ["HttpTarget"]

#: Seconds after which a connection that nobody used is not trusted: servers close such ones (most
#: after 5 s or more), and may be about to when the next request leaves.
_STALE = 2.0


class HttpTarget(Remote):
    """A model of a server, by URL.

    Each request has a connection of its own, which stays open for the next one. The bytes of a
    request are made once: to encode tensors is no part of what a server takes.

    Args:
        url: of the server, with the path before ``/v2`` if it has one.
        model: its name there.
        feeds: the input of one request of so many samples.
        binary: tensors as bytes; False as JSON.
        token: sent as a bearer token.
        tls: certificates to trust and to show, for https; None for those of the system.
        streams, batch: see :class:`~edgekit.profile.targets.remote.Remote`.
    """

    def __init__(
        self,
        url: str,
        model: str,
        feeds: Callable[[int], Feeds],
        *,
        binary: bool = True,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        streams: int = 1,
        batch: int = 1,
    ) -> None:
        super().__init__(url, streams=streams, batch=batch)
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._tls = (tls or ssl.create_default_context()) if secure else None
        path = f"{parts.path.rstrip('/')}/v2/models/{quote(model, safe='')}/infer"
        self._messages = {
            size: _message(parts.netloc, path, feeds(size), token, binary=binary)
            for size in {1, batch}
        }
        self._free: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def ask(self, size: int) -> int:
        connection = await self._connection()
        try:
            status, body, left = await connection.ask(self._messages[size])
        except BaseException:  # cancelled ones, too: an answer may still come on it
            connection.close()
            raise
        if connection.usable:
            self._free.append(connection)
        if status != 200:
            raise Dropped(_refusal(status, body))
        return left

    async def prepare(self, count: int) -> None:
        self._free = [one for one in self._free if one.fresh]
        while len(self._free) < count:
            self._free.append(await self._connect())

    async def finish(self) -> None:
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)  # transports close in the next round of the loop

    async def _connection(self) -> _Connection:
        """The one used last, so that those that are too many go stale."""
        while self._free:
            connection = self._free.pop()
            if connection.fresh:
                return connection
            connection.close()
        return await self._connect()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._open), self._host, self._port, ssl=self._tls
            )
        except OSError as error:
            raise Dropped(f"no connection: {error.strerror or error}") from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection with one request under way at most.

    Attributes:
        usable: it is open and may be asked again.
        used: ``time.monotonic`` of the last answer.
    """

    def __init__(self, known: set[_Connection]) -> None:
        self.usable = False
        self.used = time.monotonic()
        self._known = known
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[None] | None = None
        self._body: list[bytes] = []

    async def ask(self, message: bytes) -> tuple[int, bytes, int]:
        """Status, the body where it is a refusal, and when the request had left."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        left = time.perf_counter_ns()
        await self._answer
        self.used = time.monotonic()
        return self._parser.get_status_code(), b"".join(self._body), left

    @property
    def fresh(self) -> bool:
        """Whether the next request may go on it."""
        return self.usable and time.monotonic() - self.used < _STALE

    def close(self) -> None:
        self.usable = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._known.add(self)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._known.discard(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Dropped(f"the connection broke{f': {exc}' if exc else ''}"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.usable = False
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(Dropped(f"the answer is no HTTP: {error}"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)


def _message(host: str, path: str, feeds: Feeds, token: str | None, *, binary: bool) -> bytes:
    body = encode(feeds, binary=binary, outputs=None, id=None, parameters=None, where=path)
    parts = b"".join(body.parts)
    headers = {"Host": host, **body.headers, "Content-Length": str(len(parts))}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + parts


def _refusal(status: int, body: bytes) -> str:
    try:
        document = orjson.loads(body)
        told = str(document["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        told = ""
    # Figures in it, such as of how long the queue is, would make each refusal a reason of its own.
    return f"answered {status}{': ' + told.split(',')[0][:80] if told else ''}"
