"""``POST /predict/NAME``: a picture, sound, numpy file or JSON in, the best classes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response

from edgekit.errors import did_you_mean
from edgekit.serve.classification import best
from edgekit.serve.classification import softmax as probabilities
from edgekit.serve.datatypes import datatype
from edgekit.serve.errors import ServeError
from edgekit.serve.feeding import Prepared, prepare
from edgekit.serve.hang_up import HangUps
from edgekit.serve.http_body import read_body
from edgekit.serve.http_infer import INFERENCE, deadline
from edgekit.serve.http_metadata import ModelName
from edgekit.serve.media import MEDIA, one_file, read_media
from edgekit.serve.model import Inference, Model, Servable
from edgekit.serve.protocol import json_data
from edgekit.serve.repository import Repository
from edgekit.spec import Array

__all__ = ["router"]

#: How many classes are told where the client does not say.
_TOP = 5

_EXAMPLE = {
    "model": "resnet8-mnist",
    "version": "1",
    "prepared": ["converted to L", "resized from 640x480 to 28x28"],
    "output": "logits",
    "scores": "raw",
    "top": [{"index": 7, "label": "7", "score": 11.25}, {"index": 2, "label": "2", "score": 3.5}],
    "ms": 1.3,
}

_DESCRIPTION = """\
The body is the file itself, or a form with one file. What it is follows from its first bytes.

A picture is turned as its EXIF data says, converted to the input's channels and resized to its
height and width (bilinear, the aspect ratio is not kept). A model built with
`edgekit.preprocess.ImageInput` takes the bytes as they are. For inputs of floats, the server's
configuration says how bytes become values (`image` of the model); else the samples in the bundle
do: a range within 0..1, -1..1 or 0..255 tells, anything else is refused. `prepared` in the answer
says what was done.

Sound is 16-bit PCM, mixed to one channel, not resampled, filled up with silence.

Scores are what the model computes, unless `softmax` is asked for.
"""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary", "description": told}}
            for kind, told in MEDIA.items()
            if kind != "application/json"
        }
        | {
            "application/json": {
                "schema": {"type": ["array", "object"], "description": MEDIA["application/json"]},
                "example": {"input": [[0.0, 0.5, 1.0]]},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}


def router(repository: Repository, hang_ups: HangUps) -> APIRouter:
    """The route below ``/predict``."""
    routes = APIRouter(tags=["Prediction"])
    limit = int(repository.config.max_body_mb * 2**20)

    @routes.post(
        "/predict/{model}",
        summary="A picture, sound, numpy file or JSON in, the best classes out",
        description=_DESCRIPTION,
        openapi_extra=_BODY,
        responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}},
    )
    async def predict(
        request: Request,
        model: ModelName,
        top_k: Annotated[
            int | None,
            Query(ge=0, le=1000, description="How many of the best classes; 0 gives tensors."),
        ] = None,
        softmax: Annotated[bool, Query(description="Probabilities instead of raw scores.")] = False,  # noqa: FBT002
        version: Annotated[str | None, Query(description="Version of the model.")] = None,
    ) -> Response:
        started, begun = time.monotonic(), time.perf_counter_ns()
        _check_query(request)
        servable = repository.find(model, version)
        headers = dict(request.scope["headers"])
        body = await read_body(request.receive, headers, limit)
        prepared = await asyncio.to_thread(
            _prepared, repository, servable, body, request.headers.get("content-type", ""), limit
        )
        read = time.perf_counter_ns()
        work = repository.infer(
            servable.name,
            servable.version,
            prepared.feeds,
            deadline=deadline(started, headers),
        )
        inference = request.scope[INFERENCE] = await hang_ups.unless_gone(work, request.receive)
        back = time.perf_counter_ns()
        answer = _answer(inference, prepared, top_k, softmax=softmax)
        inference.stages.parse = read - begun
        inference.stages.serialise = time.perf_counter_ns() - back
        answer["ms"] = (time.perf_counter_ns() - begun) / 1e6
        content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")

    return routes


def _check_query(request: Request) -> None:
    known = ("top_k", "softmax", "version")
    for name in request.query_params:
        if name not in known:
            guess = did_you_mean(name, known)
            raise ServeError(
                f"there is no option {name[:80]!r}{guess}; the options are {', '.join(known)}"
            )


def _prepared(
    repository: Repository, model: Servable, body: bytes, content_type: str, limit: int
) -> Prepared:
    if content_type.lower().startswith("multipart/form-data"):
        body = one_file(body, content_type)
    samples = model.reference.feeds if isinstance(model, Model) else ()
    media = read_media(body, limit)
    return prepare(media, model.inputs, repository.config.of(model.name).image, samples)


def _answer(
    inference: Inference, prepared: Prepared, top_k: int | None, *, softmax: bool
) -> dict[str, Any]:
    model, outputs = inference.model, inference.outputs
    answer: dict[str, Any] = {"model": model.name, "version": model.version}
    if prepared.steps:
        answer["prepared"] = list(prepared.steps)
    scores = None if top_k == 0 else _scores(outputs, model.labels, asked=top_k is not None)
    if scores is None:
        answer["outputs"] = {
            name: {
                "datatype": datatype(array),
                "shape": list(array.shape),
                "data": np.reshape(json_data(name, array), array.shape).tolist(),
            }
            for name, array in outputs.items()
        }
        return answer
    values = outputs[scores].astype(np.float64)
    if not np.isfinite(values).all():
        raise ServeError(f"output {scores!r} has NaN or infinite scores", status=500)
    values = probabilities(values) if softmax else values
    rows = [_top(row, top_k or _TOP, model.labels) for row in values]
    answer |= {"output": scores, "scores": "softmax" if softmax else "raw"}
    return answer | {"top": rows[0] if len(rows) == 1 else rows}


def _scores(outputs: dict[str, Array], labels: Sequence[str], *, asked: bool) -> str | None:
    """The output with one score a class; None where none is, or nothing says that it is.

    Raises:
        ServeError: the client asked for classes, and there is none.
    """
    rows = {name: array for name, array in outputs.items() if array.ndim == 2 and array.size}
    for name, array in rows.items():
        if labels and array.shape[1] == len(labels):
            return name
    if asked:
        if len(rows) == 1:
            return next(iter(rows))
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise ServeError(f"top_k wants one output of [batch, classes], the model gives {shapes}")
    return None


def _top(scores: Array, count: int, labels: Sequence[str]) -> list[dict[str, Any]]:
    named = len(labels) == len(scores)
    return [
        {"index": int(i)} | ({"label": labels[i]} if named else {}) | {"score": float(scores[i])}
        for i in best(scores, count)
    ]
