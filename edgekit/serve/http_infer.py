"""``POST /v2/models/NAME[/versions/VERSION]/infer``: the way of every request, kept short.

A plain ASGI application: routing, dependency injection and request objects of a framework cost more
than a small model computes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException

from edgekit.serve.errors import ServeError
from edgekit.serve.hang_up import HangUps
from edgekit.serve.http_body import ClientGoneError, Receive, compressed, read_body
from edgekit.serve.http_errors import answer_error
from edgekit.serve.http_protocol import ANSWER
from edgekit.serve.protocol import (
    HEADER_LENGTH,
    encode_response,
    parse_request,
    with_parameters,
)
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import STAGES, Stages
from edgekit.spec import TensorSpec

__all__ = ["DEADLINE", "INFERENCE", "SESSION", "InferRoute", "deadline", "target"]

#: Where a route leaves its :class:`~edgekit.serve.model.Inference` in the ASGI scope.
INFERENCE = "edgekit.inference"

#: The header with the milliseconds that a client waits.
DEADLINE = "X-Request-Timeout-Ms"

#: The header that is the same in all requests that one version shall answer.
SESSION = "X-Session-Id"

_LENGTH = HEADER_LENGTH.lower().encode()
_DEADLINE = DEADLINE.lower().encode()
_SESSION = SESSION.lower().encode()
_PREFIX, _SUFFIX = "/v2/models/", "/infer"

Send = Callable[[Any], Awaitable[None]]


def target(path: str) -> tuple[str, str | None] | None:
    """Model and version that a decoded path asks an inference of; None for any other path."""
    if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
        return None
    parts = path[len(_PREFIX) : -len(_SUFFIX)].split("/")
    if len(parts) == 1:
        return parts[0], None
    if len(parts) == 3 and parts[1] == "versions":
        return parts[0], parts[2]
    return None


class InferRoute:
    """Answers inference requests.

    Args:
        repository: what is asked.
        limit: bytes of a body.
        hang_ups: looks after clients that hang up.
    """

    def __init__(self, repository: Repository, limit: int, hang_ups: HangUps) -> None:
        self._repository = repository
        self._limit = limit
        self._hang_ups = hang_ups

    async def __call__(
        self, model: str, version: str | None, scope: Any, receive: Receive, send: Send
    ) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        try:
            _check_method(scope["method"])
            body, fields = await self._answer(model, version, scope, headers, receive)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001, every failure is answered
            await answer_error(send, error, f"{scope['method']} {scope['path']}")
            return
        answer = scope.get(ANSWER)
        if answer is not None and answer(fields, body):
            return
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self,
        name: str,
        version: str | None,
        scope: Any,
        headers: dict[bytes, bytes],
        receive: Receive,
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        repository = self._repository
        started = time.monotonic()
        repository.known(name, version)
        body = await read_body(receive, headers, self._limit)
        start = time.perf_counter_ns()
        length = headers.get(_LENGTH)
        given = None if length is None else length.decode("latin-1")
        session = headers[_SESSION].decode("latin-1") if _SESSION in headers else None
        inputs: tuple[TensorSpec, ...] = ()
        if given == "0":  # a raw request does not say what it is
            inputs = (await repository.at_hand(name, version, session)).inputs
        request = parse_request(body, given, inputs)
        parsed = time.perf_counter_ns()
        work = repository.infer(
            name,
            version,
            request.inputs,
            deadline=deadline(started, headers, request.timeout),
            priority=request.priority,
            session=session,
        )
        inference = scope[INFERENCE] = await self._hang_ups.unless_gone(work, receive)
        back = time.perf_counter_ns()
        model = inference.model
        content, json_length = encode_response(
            model.name, model.version, request, inference.outputs, model.labels
        )
        stages = inference.stages
        stages.parse = parsed - start
        stages.serialise = time.perf_counter_ns() - back
        if request.profile:
            content, json_length = with_parameters(content, json_length, _told(stages))
        return _packed(content, json_length, headers)


def _told(stages: Stages) -> dict[str, int]:
    """A request's own stages, as parameters of its response."""
    taken = {f"{stage}_ns": getattr(stages, stage) for stage in STAGES}
    return {**taken, "total_ns": stages.total, "batch": stages.batch}


def _packed(
    content: bytes, length: int | None, headers: dict[bytes, bytes]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    kind = b"application/json" if length is None else b"application/octet-stream"
    fields = [(b"content-type", kind)]
    if length is not None:
        fields.append((_LENGTH, b"%d" % length))
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        content, coding = compressed(content, accepted)
        if coding is not None:
            fields.append((b"content-encoding", coding.encode()))
    fields.append((b"content-length", b"%d" % len(content)))
    return content, fields


def _check_method(method: str) -> None:
    if method != "POST":
        raise HTTPException(405, "an inference is a POST", {"Allow": "POST"})


def deadline(
    started: float, headers: dict[bytes, bytes], timeout: float | None = None
) -> float | None:
    """When the client's patience ends; the sooner one of header and ``timeout``, in seconds.

    Raises:
        ServeError: the header is no positive number.
    """
    left = [] if timeout is None else [timeout]
    value = headers.get(_DEADLINE)
    if value is not None:
        try:
            milliseconds = float(value)
        except ValueError:
            milliseconds = -1.0
        if not 0 < milliseconds < 1e12:
            raise ServeError(f"{DEADLINE} must be a positive number, it is {value[:40]!r}")
        left.append(milliseconds / 1e3)
    return started + min(left) if left else None
