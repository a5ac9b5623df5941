"""``/docs``: every endpoint with an example that works here, made of the schema and the models."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np

import edgekit
from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.feeding import image_input
from edgekit.serve.model import Servable
from edgekit.serve.protocol import describe
from edgekit.serve.repository import Repository
from edgekit.spec import TensorSpec

__all__ = ["curl_command", "docs_page", "example_request"]

_CODE = re.compile(r"`([^`]+)`")

#: Longest flat example that is worth showing in full.
_SHOWN = 64


def example_request(inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """A valid infer request of zeros, batch 1."""
    return {
        "inputs": [
            {
                "name": spec.name,
                "shape": list(spec.concrete({})),
                "datatype": DATATYPES[spec.dtype],
                "data": [False if spec.dtype == "bool" else 0] * _count(spec),
            }
            for spec in inputs
        ]
    }


def curl_command(model: Servable, url: str) -> str:
    """A command line to try: an inference where the example is short, else what the model takes."""
    if sum(map(_count, model.inputs)) <= _SHOWN:
        return _infer(model, f"{url}/v2/models/{_quoted(model.name)}/infer")
    if _takes_pictures(model):
        return _predict(model, f"{url}/predict/{_quoted(model.name)}")
    return _get(f"{url}/v2/models/{_quoted(model.name)}")


def docs_page(repository: Repository, schema: dict[str, Any], url: str) -> str:
    """The page as HTML.

    Args:
        repository: whose loaded models the examples are of.
        schema: the OpenAPI schema.
        url: of the server, as the reader reached it.
    """
    models = list(repository.servables())
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["Other"])[0]
            shown = _operation(method, path, operation, models, url)
            groups.setdefault(group, []).append(shown)
    names = ["Models", *groups]
    template = Template((files("edgekit.serve") / "page/docs.html").read_text(encoding="utf-8"))
    return template.substitute(
        version=html.escape(edgekit.__version__),
        contents="".join(f'<li><a href="#{_anchor(n)}">{html.escape(n)}</a></li>' for n in names),
        models=_section("Models", "".join(map(_model, models)) or "<p>No model is loaded.</p>"),
        endpoints="".join(_section(name, "".join(found)) for name, found in groups.items()),
    )


def _section(name: str, content: str) -> str:
    head = f'<section class="card" id="{_anchor(name)}"><h2>{html.escape(name)}</h2>'
    return f"{head}{content}</section>"


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _model(model: Servable) -> str:
    head = ("", "name", "datatype", "shape")
    rows = _tensors("input", model.inputs) + _tensors("output", model.outputs)
    labels = f"<p>{len(model.labels)} labels.</p>" if model.labels else ""
    return (
        f"<details open><summary><b>{html.escape(model.name)}</b> version "
        f"{html.escape(model.version)}, <code>{html.escape(model.platform)}</code></summary>"
        f'<div class="scroll">{_table(head, rows)}</div>{labels}</details>'
    )


def _tensors(kind: str, specs: Sequence[TensorSpec]) -> list[tuple[str, ...]]:
    return [
        (kind, spec.name, entry["datatype"], f"[{', '.join(map(str, spec.shape))}]")
        for spec, entry in zip(specs, describe(specs), strict=True)
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"


def _operation(
    method: str, path: str, operation: dict[str, Any], models: Sequence[Servable], url: str
) -> str:
    parameters = [
        (one["name"], one["in"], _kind(one.get("schema", {})), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    table = _table(("parameter", "in", "type", ""), parameters) if parameters else ""
    bodies = ", ".join(operation.get("requestBody", {}).get("content", {}))
    body = f"<p>Body: <code>{html.escape(bodies)}</code></p>" if bodies else ""
    examples = "\n".join(dict.fromkeys(_examples(method, path, models, url)))
    return (
        f'<details><summary><span class="verb {method}">{method.upper()}</span> '
        f"<code>{html.escape(path)}</code> {html.escape(operation.get('summary', ''))}</summary>"
        f"{_prose(operation.get('description', ''))}{table}{body}"
        f'<pre tabindex="0">{html.escape(examples)}</pre></details>'
    )


def _kind(schema: dict[str, Any]) -> str:
    kinds = [schema.get("type"), *(one.get("type") for one in schema.get("anyOf", []))]
    kind = " or ".join(str(kind) for kind in kinds if kind and kind != "null")
    default = f", {schema['default']}" if schema.get("default") is not None else ""
    return kind + default


def _prose(text: str) -> str:
    escaped = _CODE.sub(r"<code>\1</code>", html.escape(text.strip()))
    return "".join(f"<p>{part}</p>" for part in escaped.split("\n\n") if part)


def _examples(method: str, path: str, models: Sequence[Servable], url: str) -> list[str]:
    """A command for each loaded model, or the one that needs none."""
    if "{model}" not in path:
        return [_get(url + path) if method == "get" else _post(url + path)]
    found = []
    for model in models:
        place = path.replace("{model}", _quoted(model.name))
        place = url + place.replace("{version}", _quoted(model.version))
        if method == "get":
            found.append(_get(place))
        elif path.endswith("/infer"):
            found.append(_infer(model, place))
        elif path.startswith("/predict/"):
            found.append(_predict(model, place))
        else:
            found.append(_post(place))
    return found or [_get(url + path) if method == "get" else _post(url + path)]


def _get(url: str) -> str:
    return f"curl -s {shlex.quote(url)}"


def _post(url: str) -> str:
    return f"curl -s -X POST {shlex.quote(url)}"


def _infer(model: Servable, url: str) -> str:
    """With the tensor's bytes as they are where its numbers would be too many to read."""
    request = example_request(model.inputs)
    if sum(map(_count, model.inputs)) <= _SHOWN:
        return f"{_get(url)} -d {shlex.quote(json.dumps(request))}"
    if len(model.inputs) == 1:
        size = _count(model.inputs[0]) * np.dtype(model.inputs[0].dtype).itemsize
        zeros = f"head -c {size} /dev/zero"
        return (
            f"{zeros} | {_get(url)} --data-binary @- -H 'Inference-Header-Content-Length: 0' -o -"
        )
    return f"{_get(url)} -d @request.json"


def _predict(model: Servable, url: str) -> str:
    name = "photo.jpg" if _takes_pictures(model) else "input.npy"
    return f"{_get(url)} --data-binary @{name}"


def _takes_pictures(model: Servable) -> bool:
    return len(model.inputs) == 1 and image_input(model.inputs[0]) is not None


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _count(spec: TensorSpec) -> int:
    count = 1
    for size in spec.concrete({}):
        count *= size
    return count
