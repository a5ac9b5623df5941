"""Every failure is answered with ``{"error": "..."}``, as the protocol wants."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from edgekit.errors import SpecError
from edgekit.serve.errors import ServeError, told
from edgekit.serve.http_body import ClientGoneError

__all__ = ["answer_error", "described", "handle_errors"]


def described(error: Exception, what: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers that tell of an error; one that nobody expected is logged."""
    headers: dict[str, str] = {}
    if isinstance(error, ClientGoneError):
        status, text = 499, "the client hung up"  # nobody reads it; as nginx counts them
    elif isinstance(error, HTTPException):
        status, text = error.status_code, str(error.detail)
        headers.update(error.headers or {})
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        status, text = 400, f"{place}: {first['msg']}"
    else:
        status, text, after = told(error, what)
        if after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(after)))
    return status, orjson.dumps({"error": text}), headers


async def answer_error(send: Callable[[Any], Awaitable[None]], error: Exception, what: str) -> None:
    """Answer a request of a plain ASGI application with an error."""
    status, body, headers = described(error, what)
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    fields += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def handle_errors(app: FastAPI) -> None:
    """Have the application answer every error so."""

    async def handle(request: Request, error: Exception) -> Response:
        status, body, headers = described(error, f"{request.method} {request.url.path}")
        return Response(body, status, headers, media_type="application/json")

    kinds = (ServeError, SpecError, ClientGoneError, HTTPException, RequestValidationError)
    for kind in (*kinds, Exception):
        app.add_exception_handler(kind, handle)
