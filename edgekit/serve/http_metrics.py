"""``/metrics`` for Prometheus, and the live latency profile of each model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from edgekit.serve.exposition import CONTENT_TYPE, render
from edgekit.serve.http_metadata import ModelName, VersionName, json_answer
from edgekit.serve.live_profile import live_profile
from edgekit.serve.metrics import Metrics
from edgekit.serve.model import Servable
from edgekit.serve.repository import Repository

__all__ = ["router"]

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
    async def newest(model: ModelName, last: _Last = 1000, seconds: _Seconds = 10) -> Response:
        return _answer(_newest(repository, model), last, seconds)

    @routes.get(
        "/v2/models/{model}/versions/{version}/profile",
        summary="Live latency profile, one version",
        description=_PROFILE,
    )
    async def one(
        model: ModelName, version: VersionName, last: _Last = 1000, seconds: _Seconds = 10
    ) -> Response:
        return _answer(repository.find(model, version), last, seconds)

    return routes


def _newest(repository: Repository, name: str) -> Servable:
    """The newest version that is loaded, whatever the shares of the requests say."""
    loaded = repository.known(name).loaded
    return repository.find(name, next(reversed(loaded), None))


def _answer(model: Servable, last: int, seconds: float) -> Response:
    told = live_profile(model.statistics, last, seconds)
    return json_answer({"name": model.name, "version": model.version, **told})
