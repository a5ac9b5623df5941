"""The same tokens for gRPC, as an interceptor of its asyncio server."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from edgekit.security.access import Access, Denied
from edgekit.security.tokens import Scope

__all__ = ["GrpcGuard"]

_OPEN = frozenset({"ServerLive", "ServerReady", "Check", "Watch"})
#: Methods that begin so change the server, but for the one that lists the models.
_ADMIN = "Repository"
_INDEX = "RepositoryIndex"
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

#: Trailer that tells gRPC clients after how many milliseconds they may try again.
_PUSHBACK = "grpc-retry-pushback-ms"


class GrpcGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without the right token in the metadata ``authorization``.

    Each message of a stream counts against the token's rate. A stream over it is read more slowly,
    where a single call is refused.

    Args:
        access: the tokens.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if handler is None or method in _OPEN:
            return handler
        given = dict(handler_call_details.invocation_metadata).get("authorization")
        header = None if given is None else given.encode()
        admin = method.startswith(_ADMIN) and method != _INDEX
        scope = Scope.ADMIN if admin else Scope.INFER
        denied = self._access.check(header, scope, time.monotonic())
        if denied is not None:
            return _refusing(denied, streaming=handler.request_streaming)
        return self._throttled(handler, header, scope) if handler.request_streaming else handler

    def _throttled(self, handler: Any, header: bytes | None, scope: Scope) -> Any:
        """The handler of a stream, fed no faster than the token's rate allows."""

        async def paced(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            first = True  # the check that opened the stream counted it
            async for request in requests:
                while not first and (denied := self._access.check(header, scope, time.monotonic())):
                    await asyncio.sleep(denied.retry_after)
                first = False
                yield request

        async def stream(requests: AsyncIterator[Any], context: Any) -> None:
            responses = handler.stream_stream(paced(requests), context)
            if not inspect.isasyncgen(responses):
                await responses  # it writes to the context by itself
                return
            async for response in responses:
                await context.write(response)

        return grpc.stream_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        )


def _refusing(denied: Denied, *, streaming: bool) -> Any:
    """A handler of the right kind that answers every call with the reason."""

    async def refuse(_: Any, context: Any) -> None:
        milliseconds = str(math.ceil(denied.retry_after * 1e3))
        trailing = ((_PUSHBACK, milliseconds),) if denied.retry_after else ()
        await context.abort(_CODES[denied.status], denied.reason, trailing)

    async def refuse_stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(requests, context)
        yield  # never reached: it makes this a generator, which a stream's handler has to be

    if streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)
