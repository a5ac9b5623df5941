"""The same record of every call of gRPC, as an interceptor of its asyncio server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc

from edgekit.serve.model import Inference
from edgekit.serve.observe import GONE, REQUEST_ID, TRACE, Served, Sink, identified

__all__ = ["COMPUTED", "GrpcObserver"]

#: Where a call leaves its :class:`~edgekit.serve.model.Inference`.
COMPUTED: ContextVar[Inference | None] = ContextVar("edgekit.inference", default=None)

#: HTTP's status for each code that the server answers with.
_STATUSES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: GONE,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcObserver(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Tells sinks of each call. A stream is one call, told when it ends."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path: str = handler_call_details.method
        if handler.request_streaming:
            answer, made = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        else:
            answer, made = handler.unary_unary, grpc.unary_unary_rpc_method_handler

        async def observed(request: Any, context: Any) -> Any:
            start, begun = time.time_ns(), time.perf_counter_ns()
            COMPUTED.set(None)
            done = False
            try:
                response = await answer(request, context)
                done = True
                return response
            finally:
                ns = time.perf_counter_ns() - begun
                served = _served(path, request, context, start, ns, done=done)
                for sink in self._sinks:
                    sink(served)

        return made(observed, handler.request_deserializer, handler.response_serializer)


def _served(path: str, request: Any, context: Any, start: int, ns: int, *, done: bool) -> Served:
    sent = dict(context.invocation_metadata() or ())
    name = REQUEST_ID.decode()
    version = getattr(request, "model_version", None) or getattr(request, "version", None)
    asked = getattr(request, "model_name", None) or getattr(request, "name", None)
    return Served(
        identified(str(sent.get(name, "")).encode()).decode(),
        "gRPC",
        path,
        path,
        _status(context, done=done),
        start,
        ns,
        _address(context.peer()),
        (asked or None, version or None),
        COMPUTED.get(),
        {key: str(sent[key]) for key in TRACE if key in sent},
    )


def _status(context: Any, *, done: bool) -> int:
    """Of a call that ended; one that ended without any code was cancelled."""
    given = context.code()
    code = _CODES.get(given, given) if isinstance(given, int) else given
    if code in {None, grpc.StatusCode.OK}:
        return 200 if done else GONE
    return _STATUSES.get(code, 500)


def _address(peer: str) -> str:
    """Without gRPC's kind and the port: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``."""
    kind, _, rest = unquote(peer or "").partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""
