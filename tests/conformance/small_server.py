"""A small server of the protocol, right in every clause, with faults that a test switches on.

It shares no code with edgekit: the suite is judged by it, not by the server it was written beside.
Its model takes ``text`` (BYTES) and ``number`` (FP32) and gives both back, doubled and scored.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NAME = "small"
HEADER = "inference-header-content-length"
INPUTS = {"number": ("FP32", 3), "text": ("BYTES", 2)}
EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics", "classification"]


class RefusedError(Exception):
    def __init__(self, what: str, status: int = 400) -> None:
        self.status = status
        super().__init__(what)


class SmallServer:
    """The server; ``faults`` may change while it runs."""

    def __init__(self, faults: set[str]) -> None:
        self.url, self.faults, self.ready = "", faults, True
        self.counts = {"success": 0, "fail": 0}

    def app(self) -> Starlette:
        model = "/v2/models/{model}"
        routes = [
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/{which}", self.health),
            Route("/v2/models/stats", self.stats),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{model:path}/{act}", self.manage, methods=["POST"]),
        ]
        for prefix in (model, f"{model}/versions/{{version}}"):
            routes += [
                Route(prefix, self.metadata),
                Route(f"{prefix}/ready", self.model_ready),
                Route(f"{prefix}/stats", self.stats),
                Route(f"{prefix}/infer", self.infer, methods=["POST"]),
            ]
        handlers: Any = {
            RefusedError: lambda _, error: self.error(str(error), error.status),
            HTTPException: lambda _, error: self.error(error.detail, error.status_code),
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    def has(self, fault: str) -> bool:
        return fault in self.faults

    def error(self, what: str, status: int) -> Response:
        if self.has("every error is a 500"):
            status = 500
        if self.has("errors like FastAPI's"):
            return JSONResponse({"detail": [{"msg": what}]}, 422)
        return JSONResponse({"error": what}, status)

    async def server(self, _: Request) -> Response:
        found = {"name": NAME, "version": "1", "extensions": EXTENSIONS}
        if self.has("no extensions"):
            del found["extensions"]
        return JSONResponse(found)

    async def health(self, request: Request) -> Response:
        return JSONResponse({request.path_params["which"]: not self.has("says it is not ready")})

    def check(self, request: Request) -> None:
        if request.path_params.get("model") != NAME:
            raise RefusedError("unknown model", 404)
        if request.path_params.get("version", "1") != "1" and not self.has("any version"):
            raise RefusedError("unknown version", 404)

    async def metadata(self, request: Request) -> Response:
        self.check(request)
        size = None if self.has("null for a dynamic size") else -1
        tensors = [
            {"name": name, "datatype": kind, "shape": [-1, count]}
            for name, (kind, count) in INPUTS.items()
        ]
        outputs = [{**entry, "shape": [size, entry["shape"][1]]} for entry in tensors]
        found = {"name": NAME, "platform": "numpy", "inputs": tensors, "outputs": outputs}
        return JSONResponse({**found, "versions": ["1"]})

    async def model_ready(self, request: Request) -> Response:
        self.check(request)
        if not self.ready:
            raise RefusedError("not loaded")
        return JSONResponse({"name": NAME, "ready": True})

    async def index(self, request: Request) -> Response:
        body = await request.body()
        state = "READY" if self.ready else "UNAVAILABLE"
        if self.has("READY whatever the state"):
            state = "READY"
        if body and json.loads(body).get("ready") and state != "READY":
            return JSONResponse([])
        return JSONResponse([{"name": NAME, "version": "1", "state": state, "reason": ""}])

    async def manage(self, request: Request) -> Response:
        body = await request.body()
        if request.path_params["model"] != NAME and not self.has("loads anything"):
            raise RefusedError("unknown model", 404)
        try:
            json.loads(body or b"{}")
        except ValueError as error:
            raise RefusedError("not JSON") from error
        self.ready = request.path_params["act"] == "load" or self.has("unload does nothing")
        return Response()

    async def stats(self, request: Request) -> Response:
        if "model" in request.path_params:
            self.check(request)
        durations = {
            key: {"count": self.counts.get(key, 0), "ns": 0}
            for key in ("success", "fail", "queue", "compute_input", "compute_infer")
        } | {"compute_output": {"count": 0, "ns": 0}}
        count = self.counts["success"]
        run = {"count": count, "ns": 5}
        batch = {"batch_size": 1} | {f"compute_{k}": run for k in ("input", "infer", "output")}
        entry = {
            "name": NAME, "version": "1", "last_inference": 1,
            "inference_count": count, "execution_count": count,
            "inference_stats": durations, "batch_stats": [batch],
        }  # fmt: skip
        return JSONResponse({"model_stats": [entry]})

    async def infer(self, request: Request) -> Response:
        self.check(request)
        if not self.ready:
            raise RefusedError("not loaded")
        try:
            response = self.answer(await self.body(request), request)
        except RefusedError:
            self.counts["fail"] += 1
            raise
        self.counts["success"] += not self.has("successes are not counted")
        return response

    async def body(self, request: Request) -> bytes:
        body, encoding = await request.body(), request.headers.get("content-encoding")
        if encoding == "gzip":
            found = zlib.decompressobj(31).decompress(body, 2**20)
            body = gzip.decompress(body) if len(found) < 2**20 else b""
        elif encoding is not None:
            raise RefusedError("unknown encoding", 415)
        return body

    def answer(self, body: bytes, request: Request) -> Response:
        document, tail = self.split(body, request.headers.get(HEADER))
        feeds = self.feeds(document, tail)
        outputs = {"text": feeds["text"], "number": feeds["number"] * 2}
        wanted = self.wanted(document)
        head: dict[str, Any] = {"model_name": NAME, "model_version": "1", "outputs": []}
        if self.has("no version in the response"):
            del head["model_version"]
        if self.has("a new id each time") or (document.get("id") and not self.has("drops the id")):
            head["id"] = document.get("id", "new")
        behind = b""
        for name, parameters in wanted.items():
            array = outputs[name]
            if parameters.get("classification"):
                array = self.classes(array, parameters["classification"])
            kind = "BYTES" if array.dtype.kind == "O" else "FP32"
            entry = {"name": name, "datatype": kind, "shape": list(array.shape)}
            if parameters["binary_data"]:
                data = self.encoded(array)
                entry["parameters"] = {"binary_data_size": len(data)}
                behind += data
            else:
                values = array.ravel().tolist()
                entry["data"] = [v.decode() if isinstance(v, bytes) else v for v in values]
            head["outputs"].append(entry)
        try:
            encoded = json.dumps(head, allow_nan=self.has("NaN in JSON")).encode()
        except ValueError as error:
            raise RefusedError("NaN has no JSON") from error
        if not behind:
            return Response(encoded, media_type="application/json")
        headers = {HEADER: str(len(encoded))}
        return Response(encoded + behind, 200, headers, "application/octet-stream")

    def split(self, body: bytes, header: str | None) -> tuple[dict[str, Any], bytes]:
        if header is not None and not (header.isdigit() and int(header) <= len(body)):
            raise RefusedError("wrong header")
        length = len(body) if header is None else int(header)
        try:
            document = json.loads(body[:length], parse_constant=lambda _: {}["no NaN"])
        except (ValueError, KeyError, RecursionError) as error:
            raise RefusedError("not JSON") from error
        parameters = document.get("parameters", {}) if isinstance(document, dict) else None
        flat = isinstance(parameters, dict) and not any(
            isinstance(value, dict | list) for value in parameters.values()
        )
        if not flat or not isinstance(document.get("id", ""), str):
            raise RefusedError("malformed")
        return document, body[length:]

    def feeds(self, document: dict[str, Any], tail: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        listed = document.get("inputs")
        if not isinstance(listed, list):
            raise RefusedError("no inputs")
        for entry in listed:
            if not isinstance(entry, dict) or entry.get("name") not in INPUTS:
                raise RefusedError("unknown input")
            if entry["name"] in found:
                raise RefusedError("given twice")
            kind, size = INPUTS[entry["name"]]
            shape = entry.get("shape")
            if self.has("any shape") and isinstance(shape, list) and "data" in entry:
                shape = [len(np.ravel(entry["data"])) // size, size]
            well = isinstance(shape, list) and all(type(d) is int and d >= 0 for d in shape)
            if not well or entry.get("datatype") != kind or shape[1:] != [size]:
                raise RefusedError("wrong shape or datatype")
            found[entry["name"]], tail = self.tensor(entry, kind, shape, tail)
        if tail and not self.has("ignores what follows the last tensor"):
            raise RefusedError("data behind the last tensor")
        if len(found) != len(INPUTS):
            raise RefusedError("an input is missing")
        return found

    def tensor(self, entry: Any, kind: str, shape: list[int], tail: bytes) -> tuple[Any, bytes]:
        count = math.prod(shape)
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is None:
            return self.listed(entry.get("data"), kind, shape), tail
        if type(size) is not int or not 0 <= size <= len(tail) or "data" in entry:
            raise RefusedError("wrong binary_data_size")
        data, tail = tail[:size], tail[size:]
        if kind == "BYTES":
            items = []
            while len(data) >= 4:
                (length,) = struct.unpack_from("<I", data)
                items.append(data[4 : 4 + length])
                if len(items[-1]) != length:
                    raise RefusedError("an element ends behind the body")
                data = data[4 + length :]
            if data or len(items) != count:
                raise RefusedError("wrong number of elements")
            return np.array(items, object).reshape(shape), tail
        if size != 4 * count:
            raise RefusedError("size and shape differ")
        order = ">" if self.has("big-endian inputs") else "<"
        return np.frombuffer(data, f"{order}f4").astype("f4").reshape(shape), tail

    def listed(self, data: Any, kind: str, shape: list[int]) -> Any:
        if not isinstance(data, list):
            raise RefusedError("no data")
        if any(isinstance(row, list) for row in data):
            if self.has("flat data only"):
                raise RefusedError("nested data")
            data = [value for row in data for value in row]
        if len(data) != math.prod(shape) or any(
            not isinstance(value, str if kind == "BYTES" else float | int) for value in data
        ):
            raise RefusedError("data does not fill the shape")
        if kind == "BYTES":
            return np.array([value.encode() for value in data], object).reshape(shape)
        return np.array(data, np.float32).reshape(shape)

    def wanted(self, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
        default = document.get("parameters", {}).get("binary_data_output", False)
        if not isinstance(default, bool):
            raise RefusedError("no boolean")
        listed = document.get("outputs", [{"name": name} for name in INPUTS])
        names = [entry.get("name") for entry in listed]
        if len(set(names)) != len(names) or set(names) - set(INPUTS):
            raise RefusedError("unknown output, or the same twice")
        found = {}
        for entry in listed:
            parameters = {"binary_data": default} | entry.get("parameters", {})
            if self.has("the request's default wins"):
                parameters["binary_data"] |= default
            count = parameters.get("classification", 1)
            if type(count) is not int or count < 1:
                raise RefusedError("classification")
            found[entry["name"]] = parameters
        if self.has("all outputs always"):
            found = {name: {"binary_data": default} for name in INPUTS} | found
        return found

    def classes(self, scores: Any, count: int) -> Any:
        sign = 1 if self.has("the worst classes") else -1
        order = np.argsort(sign * scores, axis=1)[:, :count]
        rows = [[f"{scores[r, i]}:{i}".encode() for i in row] for r, row in enumerate(order)]
        return np.array(rows, object)

    def encoded(self, array: Any) -> bytes:
        if array.dtype.kind != "O":
            return bytes(array.astype("<f4").tobytes())
        if self.has("BYTES without lengths"):
            return b"".join(array.ravel())
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())


@contextmanager
def running(*faults: str) -> Iterator[SmallServer]:
    """The server with these faults, in a thread of its own."""
    small = SmallServer(set(faults))
    config = uvicorn.Config(small.app(), port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    small.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield small
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def small_server(*faults: str) -> Iterator[str]:
    """Its URL, where nothing else is wanted of it."""
    with running(*faults) as small:
        yield small.url
