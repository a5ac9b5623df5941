"""``/metrics`` for Prometheus, and the live latency profile of each model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import PlainTextResponse

from edgekit.serve.exposition import CONTENT_TYPE, render
from edgekit.serve.http_metadata import json_answer
from edgekit.serve.live_profile import live_profile
from edgekit.serve.metrics import Metrics
from edgekit.serve.model import Servable
from edgekit.serve.repository import Repository

__all__ = ["router"]

_Model = Annotated[str, Path(description="Name of the model.")]
_Version = Annotated[str, Path(description="Its version.")]
_Last = Annotated[int, Query(ge=1, le=4096, description="How many of the last requests.")]
_Seconds = Annotated[float, Query(gt=0, le=3600, description="And of how many last seconds.")]

_PROFILE = """\
In microseconds, for the last requests and for the last seconds: count, mean and percentiles of each
stage (parse, queue, input, infer, output, serialise), of all together and of `overhead`, which is
everything but the engine. A percentile is null, and `notes` says why, while there are too few
requests to bound it with 99 % confidence: p50 needs 11, p90 64, p99 662.
"""


def router(repository: Repository) -> APIRouter:
    """The routes that tell what the models did."""
    routes = APIRouter(tags=["Observability"])
    metrics = Metrics(repository)

    @routes.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def scrape() -> Response:
        return Response(render(await metrics.collect()), headers={"Content-Type": CONTENT_TYPE})

    @routes.get("/v2/models/{model}/profile", summary="Live latency profile", description=_PROFILE)
    async def newest(model: _Model, last: _Last = 1000, seconds: _Seconds = 10) -> Response:
        return _answer(_found(repository, model, None), last, seconds)

    @routes.get(
        "/v2/models/{model}/versions/{version}/profile",
        summary="Live latency profile, one version",
        description=_PROFILE,
    )
    async def one(
        model: _Model, version: _Version, last: _Last = 1000, seconds: _Seconds = 10
    ) -> Response:
        return _answer(_found(repository, model, version), last, seconds)

    return routes


def _found(repository: Repository, name: str, version: str | None) -> Servable:
    """A loaded model. Being looked at is not being used, for what is unloaded first."""
    loaded = repository.known(name, version).loaded
    if not loaded or (version and version not in loaded):
        return repository.find(name, version)  # raises, and says why
    return loaded[version] if version else next(reversed(loaded.values()))


def _answer(model: Servable, last: int, seconds: float) -> Response:
    told = live_profile(model.statistics, last, seconds)
    return json_answer({"name": model.name, "version": model.version, **told})
