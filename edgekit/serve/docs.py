"""``/docs``: one page that needs no network, with a request that can be tried as it stands."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.errors import ServeError
from edgekit.serve.model import Servable
from edgekit.serve.protocol import describe
from edgekit.serve.repository import Repository
from edgekit.spec import TensorSpec

__all__ = ["curl_command", "docs_page", "example_request"]

#: Longest flat example that is worth showing in full.
_SHOWN = 64


def example_request(inputs: tuple[TensorSpec, ...]) -> dict[str, Any]:
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
    """A command line to try: an inference where the example is short, else the metadata."""
    if sum(map(_count, model.inputs)) > _SHOWN:
        return f"curl -s {url}/v2/models/{model.name}"
    body = json.dumps(example_request(model.inputs))
    return f"curl -s {url}/v2/models/{model.name}/infer -d '{body}'"


def docs_page(repository: Repository) -> str:
    """The page as HTML, of the first model.

    Raises:
        ServeError: no model is loaded.
    """
    engine = next(repository.servables(), None)
    if engine is None:
        raise ServeError("no model is loaded", status=503)
    name = engine.name
    template = Template((files("edgekit.serve") / "docs.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=html.escape(name),
        artifact=html.escape(f"{engine.platform}"),
        tensors=_tensors("input", engine.inputs) + _tensors("output", engine.outputs),
        request=html.escape(json.dumps(example_request(engine.inputs))),
        url=html.escape(f"/v2/models/{name}/infer"),
    )


def _tensors(kind: str, specs: tuple[TensorSpec, ...]) -> str:
    rows = []
    for spec, entry in zip(specs, describe(specs), strict=True):
        shape = ", ".join(map(str, spec.shape))
        cells = (kind, spec.name, entry["datatype"], f"[{shape}]")
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "".join(rows)


def _count(spec: TensorSpec) -> int:
    count = 1
    for size in spec.concrete({}):
        count *= size
    return count
