"""``GRPCInferenceService`` over a repository: the protocol's gRPC side, on asyncio.

The deadline of a call reaches the queue, and a call that its client cancels is cancelled there:
gRPC cancels the task that answers it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import json_format

import edgekit
from edgekit.errors import OutputError
from edgekit.security.bind import in_url
from edgekit.serve.errors import ServeError, told
from edgekit.serve.grpc_codec import encode_message, parse_message
from edgekit.serve.grpc_observer import COMPUTED
from edgekit.serve.http_infer import SESSION
from edgekit.serve.http_metadata import EXTENSIONS, model_metadata, model_statistics
from edgekit.serve.http_repository import refuse_parameters
from edgekit.serve.proto import METHODS, SERVICE, messages
from edgekit.serve.repository import Repository
from edgekit.serve.wanted import InferRequest

__all__ = ["GrpcServer", "start_grpc"]

_NO_LIMIT = 2**31 - 1

#: gRPC's code for each status that a :class:`ServeError` may have.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

#: Trailer that tells a gRPC client after how many milliseconds it may try again.
_PUSHBACK = "grpc-retry-pushback-ms"

_SESSION = SESSION.lower()

#: Requests of one stream that are computed at a time.
_AHEAD = 32


class GrpcServer:
    """A running server; ``port`` is the one it listens on."""

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.port = port

    async def stop(self, grace: float) -> None:
        """Take no more calls, and end after those under way, at most ``grace`` seconds later."""
        await self._server.stop(grace)


async def start_grpc(
    repository: Repository,
    host: str,
    port: int,
    *,
    limit: int,
    credentials: Any = None,
    interceptors: Sequence[Any] = (),
) -> GrpcServer:
    """Answer gRPC calls from now on.

    Args:
        repository: what is asked.
        host: address to bind.
        port: port to bind, 0 for a free one.
        limit: bytes of a request, compressed or not.
        credentials: of :func:`grpc.ssl_server_credentials`, None for plain text.
        interceptors: of :class:`grpc.aio.ServerInterceptor`, the first one sees a call first.

    Raises:
        OutputError: the address cannot be bound.
    """
    server = grpc.aio.server(
        interceptors=list(interceptors),
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second server would share a port that is in use
            # Above these gRPC itself drops calls without a reason; the queue of a model tells one.
            ("grpc.server.max_pending_requests", _NO_LIMIT),
            ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ],
    )
    server.add_generic_rpc_handlers((_handler(_Service(repository)),))
    address = f"{in_url(host)}:{port}"
    try:
        if credentials is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OutputError(
            "cannot be bound for gRPC", where=address, fix="Choose another --grpc-port"
        ) from error
    await server.start()
    return GrpcServer(server, bound)


class _Service:
    """The calls. A method takes the request and gives the response, or raises."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def server_live(self, _: Any, __: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: Any) -> Any:
        return messages.ServerReadyResponse(ready=await self._repository.ready())

    async def model_ready(self, message: Any, _: Any) -> Any:
        try:
            model = self._repository.find(message.name, message.version or None)
        except ServeError as error:
            if error.status != 503:
                raise
            return messages.ModelReadyResponse(ready=False)  # it is known, but not loaded
        return messages.ModelReadyResponse(ready=await model.ready())

    async def server_metadata(self, _: Any, __: Any) -> Any:
        return messages.ServerMetadataResponse(
            name="edgekit", version=edgekit.__version__, extensions=EXTENSIONS
        )

    async def model_metadata(self, message: Any, _: Any) -> Any:
        found = model_metadata(self._repository, message.name, message.version or None)
        return json_format.ParseDict(found, messages.ModelMetadataResponse())

    async def model_statistics(self, message: Any, _: Any) -> Any:
        found = model_statistics(self._repository, message.name or None, message.version or None)
        return json_format.ParseDict(found, messages.ModelStatisticsResponse())

    async def repository_index(self, message: Any, _: Any) -> Any:
        found = self._repository.index(ready=message.ready)
        return json_format.ParseDict({"models": found}, messages.RepositoryIndexResponse())

    async def repository_load(self, message: Any, _: Any) -> Any:
        refuse_parameters(message.parameters)
        await self._repository.load(message.model_name)
        return messages.RepositoryModelLoadResponse()

    async def repository_unload(self, message: Any, _: Any) -> Any:
        dependents = False
        if "unload_dependents" in message.parameters:
            dependents = message.parameters["unload_dependents"].bool_param
        await self._repository.unload(message.model_name, dependents=dependents)
        return messages.RepositoryModelUnloadResponse()

    async def model_infer(self, message: Any, context: Any) -> Any:
        started, start = time.monotonic(), time.perf_counter_ns()
        name, version = message.model_name, message.model_version or None
        self._repository.known(name, version)
        request = parse_message(message)
        parsed = time.perf_counter_ns()
        inference = await self._repository.infer(
            name,
            version,
            request.inputs,
            deadline=_deadline(started, context, request),
            priority=request.priority,
            session=_session(context),
        )
        back = time.perf_counter_ns()
        COMPUTED.set(inference)
        model = inference.model
        response = encode_message(
            model.name, model.version, request, inference.outputs, model.labels
        )
        inference.stages.parse = parsed - start
        inference.stages.serialise = time.perf_counter_ns() - back
        return response

    async def model_stream_infer(self, requests: Any, context: Any) -> None:
        """Compute several requests of a stream at a time; answer in their order."""
        room = asyncio.Semaphore(_AHEAD)
        answers: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:

            async def read() -> None:
                async for message in requests:
                    await room.acquire()
                    answers.put_nowait(group.create_task(self._streamed(message, context)))
                answers.put_nowait(None)

            group.create_task(read())
            while (answer := await answers.get()) is not None:
                await context.write(await answer)
                room.release()

    async def _streamed(self, message: Any, context: Any) -> Any:
        """One answer of a stream; an error is an answer, too, and says of what."""
        try:
            response = await self.model_infer(message, context)
            # What Triton's clients of models with several answers look for.
            response.parameters["triton_final_response"].bool_param = True
        except Exception as error:  # noqa: BLE001, the stream goes on
            _, told, _ = _described(error, "ModelStreamInfer")
            of = messages.ModelInferResponse(model_name=message.model_name, id=message.id)
            return messages.ModelStreamInferResponse(error_message=told, infer_response=of)
        return messages.ModelStreamInferResponse(infer_response=response)


def _handler(service: _Service) -> Any:
    """What gRPC calls for each RPC."""
    unary = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.model_metadata,
        "ModelInfer": service.model_infer,
        "ModelStatistics": service.model_statistics,
        "RepositoryIndex": service.repository_index,
        "RepositoryModelLoad": service.repository_load,
        "RepositoryModelUnload": service.repository_unload,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(_answering(name, call), *_coding(name))
        for name, call in unary.items()
    }
    name = "ModelStreamInfer"
    handlers[name] = grpc.stream_stream_rpc_method_handler(
        service.model_stream_infer, *_coding(name)
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _coding(name: str) -> tuple[Any, Any]:
    method = METHODS[name]
    return method.request.FromString, method.response.SerializeToString


def _answering(name: str, call: Any) -> Any:
    """The call, with what it raises as a status."""

    async def answer(message: Any, context: Any) -> Any:
        try:
            return await call(message, context)
        except Exception as error:  # noqa: BLE001, every failure is answered
            await context.abort(*_described(error, name))

    return answer


def _described(error: Exception, what: str) -> tuple[Any, str, tuple[tuple[str, str], ...]]:
    """Code, message and trailers that tell of an error; one that nobody expected is logged."""
    status, text, after = told(error, what)
    trailers = () if after is None else ((_PUSHBACK, str(int(after * 1e3))),)
    return _CODES.get(status, grpc.StatusCode.UNKNOWN), text, trailers


def _deadline(started: float, context: Any, request: InferRequest) -> float | None:
    """When the client's patience ends; the sooner one of the call's deadline and the parameter."""
    given = (context.time_remaining(), request.timeout)
    left = [seconds for seconds in given if seconds is not None]
    return started + min(left) if left else None


def _session(context: Any) -> str | None:
    """As the HTTP header of that name."""
    found = (value for key, value in context.invocation_metadata() or () if key == _SESSION)
    return next(found, None)
