"""The inference routes for ``/openapi.json``: they take a shorter way than FastAPI's."""

from __future__ import annotations

from typing import Any

from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.protocol import HEADER_LENGTH

__all__ = ["with_inference"]

_JSON = "application/json"
_BINARY = "application/octet-stream"
_PATH = "/v2/models/{model}"


def with_inference(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with ``POST .../infer``, with and without a version in the path."""
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    components |= {
        "InferRequest": _REQUEST,
        "InferResponse": _RESPONSE,
        "Error": _object({"error": {"type": "string"}}, "error"),
    }
    for item in (model for path in schema["paths"].values() for model in path.values()):
        item["responses"]["4XX"] = _ERROR
    schema["paths"][f"{_PATH}/infer"] = {"post": _operation("infer", "model")}
    schema["paths"][f"{_PATH}/versions/{{version}}/infer"] = {
        "post": _operation("infer_version", "model", "version")
    }
    return schema


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_ERROR = {"description": "What is wrong", "content": {_JSON: {"schema": _reference("Error")}}}
_PARAMETERS = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TENSOR = _object(
    {
        "name": {"type": "string", "minLength": 1},
        "datatype": {"type": "string", "enum": list(DATATYPES.values())},
        "shape": _SHAPE,
        "data": {"type": "array", "items": {}},
        "parameters": _PARAMETERS,
    },
    "name",
    "datatype",
    "shape",
)
_REQUEST = _object(
    {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {
            "type": "array",
            "items": _object({"name": {"type": "string"}, "parameters": _PARAMETERS}, "name"),
        },
    },
    "inputs",
)
_RESPONSE = _object(
    {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
    "model_name",
    "outputs",
)


def _operation(identity: str, *places: str) -> dict[str, Any]:
    length = {
        "name": HEADER_LENGTH,
        "in": "header",
        "required": False,
        "description": "Bytes of the JSON part, where binary tensors follow it.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
    path = [
        {"name": place, "in": "path", "required": True, "schema": {"type": "string"}}
        for place in places
    ]
    return {
        "tags": ["Open Inference Protocol"],
        "summary": "Run one inference",
        "operationId": identity,
        "parameters": [*path, length],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": _reference("InferRequest")},
                _BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs",
                "content": {_JSON: {"schema": _reference("InferResponse")}, _BINARY: {}},
            },
            "4XX": _ERROR,
        },
    }
