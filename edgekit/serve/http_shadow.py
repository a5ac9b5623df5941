"""``GET /v2/models/NAME/shadow``: how close the shadow version comes to what clients get."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, Response

from edgekit.manifest import Fidelity
from edgekit.serve.errors import ServeError
from edgekit.serve.http_metadata import ModelName, json_answer
from edgekit.serve.repository import Repository
from edgekit.serve.shadow import Comparison, Shadow

__all__ = ["router", "shadow_report"]


def shadow_report(shadow: Shadow) -> dict[str, Any]:
    """What is known about a shadow, for JSON; a ratio that is infinite is null there."""
    return {
        "version": shadow.version,
        "beside": {version: _told(one) for version, one in shadow.comparisons.items()},
    }


def router(repository: Repository) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["Model repository"])

    @routes.get("/v2/models/{model}/shadow", summary="Comparison with the shadow version")
    async def shadow(model: ModelName) -> Response:
        known = repository.known(model).shadow
        if known is None:
            raise ServeError(
                f"model {model!r} has no shadow", status=404, fix="Set shadow in its configuration"
            )
        return json_answer(shadow_report(known))

    return routes


def _told(comparison: Comparison) -> dict[str, Any]:
    return {
        "compared": comparison.compared,
        "identical": comparison.identical,
        "incomparable": comparison.incomparable,
        "dropped": comparison.dropped,
        "failed": comparison.failed,
        "last_error": comparison.last_error,
        "outputs": {name: _fidelity(one) for name, one in comparison.outputs.items()},
    }


def _fidelity(fidelity: Fidelity) -> dict[str, float | None]:
    values = fidelity.model_dump()
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
