"""A record of every request, for the access log and for traces; around the application.

It is put there only when one of them is on: a server that keeps no records pays nothing for it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.serve.http_infer import INFERENCE, target
from edgekit.serve.http_protocol import ANSWER
from edgekit.serve.model import Inference

__all__ = ["GONE", "REQUEST_ID", "TRACE", "Observer", "Served", "Sink", "identified"]

REQUEST_ID = b"x-request-id"

#: The headers that say which trace a request belongs to (W3C Trace Context).
TRACE = ("traceparent", "tracestate")

#: As nginx tells of clients that hung up before they were answered.
GONE = 499

_PREDICT = "/predict/"

_GOOD_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Served:
    """One request and how it was answered. Never holds a body, a query or a token.

    Attributes:
        id: the client's ``X-Request-Id``, or one made here.
        method: of HTTP; ``gRPC`` for a call of that.
        path: as the client sent it, decoded.
        route: the pattern that the path fits; empty when there is none.
        status: of the answer; 499 when the client hung up. Calls of gRPC have HTTP's, too.
        start: when it began, in nanoseconds since 1970.
        ns: how long it took.
        client: its address; empty behind a Unix socket.
        asked: name and version of the model that was asked for, where that is known.
        inference: what was computed, where something was.
        trace: the headers ``traceparent`` and ``tracestate``, where the client sent them.
    """

    id: str
    method: str
    path: str
    route: str
    status: int
    start: int
    ns: int
    client: str
    asked: tuple[str | None, str | None]
    inference: Inference | None
    trace: Mapping[str, str]

    @property
    def model(self) -> tuple[str | None, str | None]:
        """Name and version of the model that computed it, or that was asked for."""
        if self.inference is not None:
            return self.inference.model.name, self.inference.model.version
        return self.asked


Sink = Callable[[Served], None]


class Observer:
    """An ASGI application that tells sinks of each request to another, and echoes request ids."""

    def __init__(self, app: Any, sinks: Sequence[Sink]) -> None:
        self._app = app
        self._sinks = sinks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.pop(ANSWER, None)  # it would pass unseen
        start, begun = time.time_ns(), time.perf_counter_ns()
        headers = dict(scope["headers"])
        identity = identified(headers.get(REQUEST_ID, b""))
        status = GONE

        async def echoing(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                fields = [*message.get("headers", ()), (REQUEST_ID, identity)]
                message = {**message, "headers": fields}
            await send(message)

        try:
            await self._app(scope, receive, echoing)
        finally:
            ns = time.perf_counter_ns() - begun
            served = _served(scope, headers, identity.decode(), status, start, ns)
            for sink in self._sinks:
                sink(served)


def identified(given: bytes) -> bytes:
    """The id of a request: the client's own where it is one, else a new one."""
    return given if _GOOD_ID.fullmatch(given) else os.urandom(16).hex().encode()


def _served(
    scope: Any, headers: dict[bytes, bytes], identity: str, status: int, start: int, ns: int
) -> Served:
    path = scope["path"]
    wanted = target(path)
    if wanted is None:
        route = getattr(scope.get("route"), "path", "")
    else:
        route = f"/v2/models/{{model}}{'/versions/{version}' if wanted[1] else ''}/infer"
    if wanted is None and path.startswith(_PREDICT):
        wanted = path[len(_PREDICT) :], None
    return Served(
        identity,
        scope["method"],
        path,
        route,
        status,
        start,
        ns,
        (scope.get("client") or ("",))[0],
        wanted or (None, None),
        scope.get(INFERENCE),
        {n: headers[n.encode()].decode("latin-1") for n in TRACE if n.encode() in headers},
    )
