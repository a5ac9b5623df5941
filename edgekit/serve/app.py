"""The HTTP interface: Open Inference Protocol v2 with its extensions, and a page for people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

import edgekit
from edgekit.serve import (
    http_metadata,
    http_metrics,
    http_page,
    http_predict,
    http_repository,
    http_shadow,
)
from edgekit.serve.config import ServerConfig
from edgekit.serve.hang_up import HangUps
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
        self.hang_ups = HangUps()
        self._infer = InferRoute(repository, int(config.max_body_mb * 2**20), self.hang_ups)

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
    app.include_router(http_metrics.router(repository))
    app.include_router(http_predict.router(repository, app.hang_ups))
    app.include_router(http_page.router(app, repository))
    handle_errors(app)
    return app
