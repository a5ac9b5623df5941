"""The HTTP interface: Open Inference Protocol v2 with binary tensors, and a page for people."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

import edgekit
from edgekit.errors import SpecError
from edgekit.serve.docs import docs_page
from edgekit.serve.engine import Engine
from edgekit.serve.protocol import (
    HEADER_LENGTH,
    ProtocolError,
    describe,
    encode_response,
    parse_request,
)

__all__ = ["BODY_LIMIT", "create_app"]

#: Largest request body in bytes, as Triton's default.
BODY_LIMIT = 64 * 2**20

_VERSION = "1"
_log = logging.getLogger("edgekit.serve")


def create_app(engine: Engine, name: str) -> FastAPI:
    """The application that serves ``engine`` under the model name ``name``."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(
        title=f"edgekit: {name}",
        version=edgekit.__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts from the internet, a device may have none
        redoc_url=None,
    )
    app.include_router(_server_routes(engine))
    app.include_router(_model_routes(engine, name), prefix="/v2/models/{model}")
    app.include_router(_model_routes(engine, name), prefix="/v2/models/{model}/versions/{version}")
    page = docs_page(engine, name)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    _answer_errors(app)
    return app


def _server_routes(engine: Engine) -> APIRouter:
    router = APIRouter()

    @router.get("/v2", summary="Server metadata")
    async def server() -> Response:
        return _json(
            {
                "name": "edgekit",
                "version": edgekit.__version__,
                "extensions": ["binary_tensor_data"],
            }
        )

    @router.get("/v2/health/live", summary="Whether the server answers")
    async def live() -> Response:
        return Response()

    @router.get("/v2/health/ready", summary="Whether inferences work")
    async def ready() -> Response:
        return Response(status_code=200 if await engine.ready() else 503)

    return router


def _model_routes(engine: Engine, name: str) -> APIRouter:
    """The routes of one model; they stand twice, with and without a version in the path."""
    router = APIRouter()

    @router.get("", summary="Model metadata")
    async def metadata(model: str, version: str = _VERSION) -> Response:
        _check_model(name, model, version)
        return _json(
            {
                "name": name,
                "versions": [_VERSION],
                "platform": f"{engine.artifact.runtime}_{engine.artifact.format}",
                "inputs": describe(engine.inputs),
                "outputs": describe(engine.outputs),
            }
        )

    @router.get("/ready", summary="Whether inferences of this model work")
    async def ready(model: str, version: str = _VERSION) -> Response:
        _check_model(name, model, version)
        return Response(status_code=200 if await engine.ready() else 503)

    @router.post("/infer", summary="Run one inference")
    async def infer(request: Request, model: str, version: str = _VERSION) -> Response:
        _check_model(name, model, version)
        body = await _body(request)
        parsed = parse_request(body, request.headers.get(HEADER_LENGTH), engine.inputs)
        outputs = await engine.infer(parsed.inputs)
        encoded, length = encode_response(name, _VERSION, parsed, outputs)
        if length is None:
            return Response(encoded, media_type="application/json")
        return Response(
            encoded,
            media_type="application/octet-stream",
            headers={HEADER_LENGTH: str(length)},
        )

    return router


def _check_model(name: str, model: str, version: str) -> None:
    if model != name:
        raise ProtocolError(f"unknown model {model!r}, this server has {name!r}", status=404)
    if version != _VERSION:
        raise ProtocolError(f"unknown version {version!r} of {name!r}, it has 1", status=404)


async def _body(request: Request) -> bytes:
    """The request's body, refused as soon as it is known to be too large."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ProtocolError(f"Content-Encoding {encoding!r} is not supported", status=415)
    chunks: list[bytes] = []
    size = 0
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > BODY_LIMIT:
        raise ProtocolError(f"the body is over {BODY_LIMIT} bytes", status=413)
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise ProtocolError(f"the body is over {BODY_LIMIT} bytes", status=413)
        chunks.append(chunk)
    return b"".join(chunks)


def _answer_errors(app: FastAPI) -> None:
    """Every failure is ``{"error": "..."}``, as the protocol wants, whatever raised it."""

    @app.exception_handler(ProtocolError)
    async def protocol(_: Request, error: ProtocolError) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return _json({"error": str(error)}, error.status, headers)

    @app.exception_handler(SpecError)
    async def spec(_: Request, error: SpecError) -> Response:
        return _json({"error": str(error)}, 400)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _json({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _json({"error": "the inference failed, see the server's log"}, 500)


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
