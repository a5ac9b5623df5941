"""The outermost layer of the HTTP server: tokens, hosts, origins and security headers.

Plain ASGI, since every inference passes it: a few microseconds a request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

import orjson

from edgekit.security.access import Access, Denied
from edgekit.security.policy import POLICY
from edgekit.security.tokens import Scope
from edgekit.serve.http_protocol import ANSWER

__all__ = ["Guard"]

_Scope: TypeAlias = MutableMapping[str, Any]
_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: What needs no token: an orchestrator's probes, and the page's own files, which hold no data.
_OPEN = frozenset({"/v2/health/live", "/v2/health/ready", "/"})
_OPEN_FOLDER = "/page/"

#: Changes the server. Under this prefix only the list of models is for everybody.
_ADMIN = "/v2/repository/"
_INDEX = "/v2/repository/index"

#: Answers that hold data and no pages.
_API = ("/v2", "/predict", "/metrics")

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_PAGE_HEADERS = (*_HEADERS, (b"content-security-policy", POLICY.encode()))
_API_HEADERS = (*_PAGE_HEADERS, (b"cache-control", b"no-store"))


class Guard:
    """Lets requests pass to ``app``, or answers them itself with 401, 403 or 429.

    Args:
        app: the application.
        access: the tokens; None asks for none.
        hosts: names that the ``Host`` header may have, without port; None for any. A server on
            loopback names its own, or a web page could reach it under a name of the page's
            (DNS rebinding).
    """

    def __init__(
        self, app: _App, *, access: Access | None = None, hosts: Collection[str] | None = None
    ) -> None:
        self._app = app
        self._access = access
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the server has no WebSockets, and they would pass unchecked
            await send({"type": "websocket.close", "code": 1008})
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        extra = _API_HEADERS if path.startswith(_API) else _PAGE_HEADERS

        async def send_with_headers(message: _Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                own = {name for name, _ in headers}
                headers.extend(header for header in extra if header[0] not in own)
            await send(message)

        answer = scope.get(ANSWER)
        if answer is not None:
            scope[ANSWER] = lambda fields, body: answer([*fields, *extra], body)
        denied = self._check(scope, path)
        if denied is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await _answer(denied, send_with_headers)

    def _check(self, scope: _Scope, path: str) -> Denied | None:
        authorization = host = origin = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if self._hosts is not None and host is not None and _name(host) not in self._hosts:
            return Denied(403, "this server is on loopback and not known under that host name")
        # Tokens are safe from other sites, but neither certificates nor an open server are.
        if origin is not None and origin.partition(b"://")[2] != host:
            return Denied(403, "pages of other origins may not use this server")
        if self._access is None or path in _OPEN or path.startswith(_OPEN_FOLDER):
            return None
        admin = path.startswith(_ADMIN) and path != _INDEX
        wanted = Scope.ADMIN if admin else Scope.INFER
        return self._access.check(authorization, wanted, time.monotonic())


async def _answer(denied: Denied, send: _Send) -> None:
    body = orjson.dumps({"error": denied.reason})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if denied.challenge:
        headers.append((b"www-authenticate", denied.challenge.encode()))
    if denied.retry_after:
        headers.append((b"retry-after", str(math.ceil(denied.retry_after)).encode()))
    await send({"type": "http.response.start", "status": denied.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _name(host: bytes) -> str:
    """The name in a ``Host`` header: without port, in lower case, IPv6 in its brackets."""
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text
