"""The HTTP interface: Open Inference Protocol v2 with its extensions, and a page for people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse

import edgekit
from edgekit.security.policy import page_policy
from edgekit.serve import http_metadata, http_repository, http_shadow
from edgekit.serve.config import ServerConfig
from edgekit.serve.docs import docs_page
from edgekit.serve.http_errors import handle_errors
from edgekit.serve.http_infer import InferRoute, target
from edgekit.serve.openapi import with_inference
from edgekit.serve.repository import Repository

__all__ = ["create_app"]


class App(FastAPI):
    """FastAPI for everything but inferences, which take a shorter way."""

    def __init__(self, repository: Repository, config: ServerConfig) -> None:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            await repository.start()
            yield
            await repository.close()

        super().__init__(
            title="edgekit",
            version=edgekit.__version__,
            lifespan=lifespan,
            docs_url=None,  # FastAPI's page loads scripts from the internet, a device may have none
            redoc_url=None,
        )
        self._infer = InferRoute(repository, int(config.max_body_mb * 2**20))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        wanted = target(scope["path"]) if scope["type"] == "http" else None
        if wanted is not None:
            await self._infer(*wanted, scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The schema, with the inference routes."""
        if not self.openapi_schema:
            self.openapi_schema = with_inference(super().openapi())
        return self.openapi_schema


def create_app(repository: Repository, config: ServerConfig) -> FastAPI:
    """The application that serves ``repository``; starting it loads the models."""
    app = App(repository, config)
    app.include_router(http_metadata.router(repository))
    app.include_router(http_repository.router(repository))
    app.include_router(http_shadow.router(repository))

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = docs_page(repository)
        return HTMLResponse(page, headers={"Content-Security-Policy": page_policy(page)})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    handle_errors(app)
    return app
