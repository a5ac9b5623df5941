"""The page at ``/`` and the description at ``/docs``.

Scripts and styles are files of their own, and nothing comes from elsewhere: a content security
policy of ``default-src 'self'`` holds, and a device without internet shows it all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from edgekit.serve.docs import docs_page
from edgekit.serve.errors import ServeError
from edgekit.serve.repository import Repository

__all__ = ["router"]

_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_FILES = ("api.js", "chart.js", "icon.svg", "page.css", "page.js", "theme.js", "tryit.js")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    tag: str

    def answer(self, request: Request) -> Response:
        headers = {"ETag": self.tag, "Cache-Control": "no-cache"}  # ask, and be told 304
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers={**headers, "Content-Type": self.kind})


def router(app: FastAPI, repository: Repository) -> APIRouter:
    """The routes for browsers. ``app`` knows every endpoint."""
    routes = APIRouter(include_in_schema=False)
    index = _read("index.html")
    others = {name: _read(name) for name in _FILES}

    @routes.get("/")
    async def page(request: Request) -> Response:
        return index.answer(request)

    @routes.get("/page/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in others:
            raise ServeError(f"there is no file {name[:80]!r}", status=404)
        return others[name].answer(request)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        url = str(request.base_url).rstrip("/")
        return HTMLResponse(docs_page(repository, app.openapi(), url))

    return routes


def _read(name: str) -> _File:
    content = (files("edgekit.serve") / "page" / name).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]
    return _File(content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
