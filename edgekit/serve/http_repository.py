"""The protocol's model repository extension: what there is, load, unload."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from fastapi import APIRouter, Request, Response

from edgekit.serve.errors import ServeError
from edgekit.serve.http_body import read_body
from edgekit.serve.http_metadata import ModelName, json_answer
from edgekit.serve.repository import Repository

__all__ = ["refuse_parameters", "router"]

#: Bytes of a body here: a few parameters.
_LIMIT = 2**16


def router(repository: Repository) -> APIRouter:
    """The routes below ``/v2/repository``."""
    routes = APIRouter(prefix="/v2/repository", tags=["Model repository"])

    @routes.post("/index", summary="Every version of every model, and its state")
    async def index(request: Request) -> Response:
        ready = (await _parameters(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise ServeError("'ready' must be true or false")
        return json_answer(repository.index(ready=ready))

    @routes.post("/models/{model}/load", summary="Load a model, or what is new of it")
    async def load(model: ModelName, request: Request) -> Response:
        refuse_parameters((await _parameters(request)).get("parameters"))
        await repository.load(model)
        return json_answer({})

    @routes.post("/models/{model}/unload", summary="Unload a model after its last answers")
    async def unload(model: ModelName, request: Request) -> Response:
        given = (await _parameters(request)).get("parameters", {})
        dependents = given.get("unload_dependents", False) if isinstance(given, dict) else None
        if not isinstance(dependents, bool):
            raise ServeError("'parameters' must be an object, its 'unload_dependents' a boolean")
        await repository.unload(model, dependents=dependents)
        return json_answer({})

    return routes


def refuse_parameters(given: object) -> None:
    """Refuse what would change how a model is loaded: what it is stands in its bundle.

    Args:
        given: the parameters of a request to load a model.

    Raises:
        ServeError: there are some.
    """
    if given:
        named = ", ".join(map(str, given)) if isinstance(given, Iterable) else given
        raise ServeError(f"a model is loaded as it lies on disk, without {named}", status=501)


async def _parameters(request: Request) -> dict[str, object]:
    """The request's body: nothing, or a JSON object.

    Raises:
        ServeError: it is something else.
    """
    body = await read_body(request.receive, dict(request.scope["headers"]), _LIMIT)
    try:
        read = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ServeError(f"the body is not valid JSON: {error}") from error
    if not isinstance(read, dict):
        raise ServeError("the body must be a JSON object, or empty")
    return read
