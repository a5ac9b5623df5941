"""What the server and its models are, whether they work, and what they did."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Response

import edgekit
from edgekit.serve.protocol import describe
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import BatchCount, Duration, Statistics

__all__ = [
    "EXTENSIONS",
    "ModelName",
    "VersionName",
    "json_answer",
    "model_metadata",
    "model_statistics",
    "router",
]

#: The protocol's extensions that this server has.
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
]

#: Parts of a path.
ModelName = Annotated[str, Path(description="Name of the model.")]
VersionName = Annotated[str, Path(description="Its version.")]


def json_answer(content: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def model_metadata(repository: Repository, name: str, version: str | None) -> dict[str, Any]:
    """The protocol's metadata of a model.

    Raises:
        ServeError: there is no such model, or it is not loaded.
    """
    model = repository.find(name, version)
    return {
        "name": model.name,
        "versions": list(repository.entries[name].loaded),
        "platform": model.platform,
        "inputs": describe(model.inputs),
        "outputs": describe(model.outputs),
    }


def model_statistics(
    repository: Repository, name: str | None, version: str | None
) -> dict[str, Any]:
    """The statistics extension's answer, for one version, one model or all.

    Raises:
        ServeError: there is no such model, or it is not loaded.
    """
    if name is None:
        models = list(repository.servables())
    elif version is None:
        repository.find(name)
        models = list(repository.entries[name].loaded.values())
    else:
        models = [repository.find(name, version)]
    found = [(model.name, model.version, model.statistics) for model in models]
    return {"model_stats": [_statistics(*one) for one in found]}


def router(repository: Repository) -> APIRouter:
    """The routes of the protocol that only tell."""
    routes = APIRouter(tags=["Open Inference Protocol"])

    @routes.get("/v2", summary="Server metadata")
    async def server() -> Response:
        return json_answer(
            {"name": "edgekit", "version": edgekit.__version__, "extensions": EXTENSIONS}
        )

    @routes.get("/v2/health/live", summary="Whether the server answers")
    async def live() -> Response:
        return json_answer({"live": True})

    @routes.get("/v2/health/ready", summary="Whether inferences of every model work")
    async def ready() -> Response:
        works = await repository.ready()
        return json_answer({"ready": works}, 200 if works else 503)

    @routes.get("/v2/models/stats", summary="Statistics of all models")
    async def all_statistics() -> Response:
        return json_answer(model_statistics(repository, None, None))

    async def metadata(model: str, version: str | None = None) -> Response:
        return json_answer(model_metadata(repository, model, version))

    async def model_ready(model: str, version: str | None = None) -> Response:
        works = await repository.find(model, version).ready()
        return json_answer({"name": model, "ready": works}, 200 if works else 503)

    async def statistics(model: str, version: str | None = None) -> Response:
        return json_answer(model_statistics(repository, model, version))

    for path, handler, summary in (
        ("", metadata, "Model metadata"),
        ("/ready", model_ready, "Whether inferences of this model work"),
        ("/stats", statistics, "Statistics of a model"),
    ):
        _twice(routes, path, handler, summary)
    return routes


def _twice(routes: APIRouter, path: str, handler: Any, summary: str) -> None:
    """The same route of a model and of one of its versions."""

    async def newest(model: ModelName) -> Response:
        answer: Response = await handler(model)
        return answer

    async def one(model: ModelName, version: VersionName) -> Response:
        answer: Response = await handler(model, version)
        return answer

    prefix = "/v2/models/{model}"
    routes.get(f"{prefix}{path}", summary=summary)(newest)
    routes.get(f"{prefix}/versions/{{version}}{path}", summary=f"{summary}, one version")(one)


def _statistics(name: str, version: str, statistics: Statistics) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "last_inference": statistics.last_inference_ms,
        "inference_count": statistics.samples,
        "execution_count": sum(count.infer.count for count in statistics.batches.values()),
        "inference_stats": {
            "success": _duration(statistics.success),
            "fail": _duration(statistics.failed),
            "queue": _duration(statistics.queue),
            "compute_input": _duration(statistics.compute_input),
            "compute_infer": _duration(statistics.compute_infer),
            "compute_output": _duration(statistics.compute_output),
            "cache_hit": _duration(statistics.cache_hit),
            "cache_miss": _duration(statistics.cache_miss),
        },
        "batch_stats": [
            _batch(size, statistics.batches[size]) for size in sorted(statistics.batches)
        ],
    }


def _batch(size: int, count: BatchCount) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": _duration(count.input),
        "compute_infer": _duration(count.infer),
        "compute_output": _duration(count.output),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
