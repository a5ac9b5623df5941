"""Start the real server on a bundle, send it one real request, stop it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import GateError
from edgekit.serve.datatypes import DATATYPES
from edgekit.verify import Reference

__all__ = ["request_once"]


def request_once(bundle: Bundle) -> str:
    """Serve ``bundle`` in a process of its own, infer one stored sample over HTTP, say what came.

    Raises:
        GateError: the server did not start or did not answer with the model's outputs.
    """
    command = [sys.executable, "-m", "edgekit", "serve", str(bundle.path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            first = server.stderr.readline() if server.stderr else ""
            found = re.search(r"http://[\d.:]+", first)
            if found is None:
                raise GateError(f"the server did not start: {first}", where=str(bundle.path))
            return _infer(bundle, f"{found[0]}/v2/models/{bundle.manifest.name}/infer")
        finally:
            server.terminate()


def _infer(bundle: Bundle, url: str) -> str:
    sample = Reference.load(bundle.path / str(bundle.manifest.reference)).feeds[0]
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES[array.dtype.name],
            "data": array.ravel().tolist(),
        }
        for name, array in sample.items()
    ]
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        answer = json.load(response)
    return f"POST {url} answered {response.status}, {_told(answer, bundle)}"


def _told(answer: dict[str, Any], bundle: Bundle) -> str:
    output = answer["outputs"][0]
    values = output["data"]
    best = max(range(len(values)), key=values.__getitem__)
    labels = (
        (bundle.path / bundle.manifest.labels).read_text().splitlines()
        if bundle.manifest.labels
        else []
    )
    label = f" ({labels[best]!r})" if best < len(labels) else ""
    return f"{output['name']} {output['shape']}, largest at index {best}{label}"
