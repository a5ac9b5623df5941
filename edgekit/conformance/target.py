"""The server under test, as one client sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from edgekit.conformance.clause import NotApplicable, Unmet, as_list, expect
from edgekit.conformance.tensors import (
    DATATYPES,
    Array,
    binary_tensor,
    json_tensor,
    make_array,
    read_binary,
    read_json,
    same,
)
from edgekit.errors import EdgekitError

__all__ = ["HEADER", "UNKNOWN", "Answer", "Reply", "Target", "TargetError", "read_answer"]

#: Length of the JSON part of a body with binary tensors.
HEADER = "Inference-Header-Content-Length"

#: A name that no model, input or output has.
UNKNOWN = "no-such-name-edgekit-conformance"

#: Sizes to try for dynamic dimensions, until the model takes one.
_SIZES = (1, 8, 32, 224)


class TargetError(EdgekitError):
    """The suite cannot begin: the server does not answer, or no valid request is known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response over HTTP, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body.

        Raises:
            Unmet: it is not strict JSON.
        """
        try:
            return json.loads(self.body, parse_constant=_refuse)
        except ValueError as error:
            raise Unmet("a body of JSON", self) from error

    def object(self) -> dict[str, Any]:
        """The body of a success.

        Raises:
            Unmet: the status is not 200, or the body not a JSON object.
        """
        expect(self.status == 200, "status 200", self)
        document = self.json()
        if not isinstance(document, dict):
            raise Unmet("a JSON object", self)
        return document

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200].decode(errors='replace')!r}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful inference: the JSON part, the outputs as arrays, and how they came."""

    document: dict[str, Any]
    outputs: dict[str, Array]
    reply: Reply

    def entry(self, name: str) -> dict[str, Any]:
        """The description of one output.

        Raises:
            Unmet: there is none.
        """
        for entry in self.document["outputs"]:
            if entry["name"] == name:
                return dict(entry)
        raise Unmet(f"output {name!r}", self.document)


class Target:
    """A server, one of its models and a request that the model can answer.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        model: its name; None for the first that the repository index calls ready.
        feeds: inputs by name; None to make them from the metadata.
        grpc: host and port of the server's gRPC side, None to leave that out.
        headers: sent with each request, such as an Authorization.
        unload: whether the model may be unloaded and loaded again.

    Raises:
        TargetError: the server does not answer, or there is no model or no input to test with.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        feeds: Mapping[str, Array] | None = None,
        grpc: str | None = None,
        headers: Mapping[str, str] | None = None,
        unload: bool = False,
    ) -> None:
        self.url, self.grpc, self.unload = url.rstrip("/"), grpc, unload
        self.headers = dict(headers or {})
        self._replies: dict[str, Reply] = {}
        self._http = self._connected()
        self.model = model or self._first_ready()
        self.path = f"/v2/models/{quote(self.model, safe='')}"
        self.metadata: dict[str, Any] = self._metadata()
        self.feeds = dict(feeds) if feeds is not None else self._made_feeds()
        self._check_feeds()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, document: Any = None) -> Reply:
        """POST a JSON document, or an empty body."""
        body = b"" if document is None else json.dumps(document).encode()
        return self.send("POST", path, body, {"Content-Type": "application/json"})

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any request.

        Raises:
            Unmet: no response came.
        """
        try:
            response = self._http.request(method, path, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unmet("a response", f"{type(error).__name__}: {error}") from error
        return Reply(response.status_code, response.headers, response.content)

    def remembered(self, key: str, send: Callable[[], Reply]) -> Reply:
        """The reply to a request that several clauses look at, sent once."""
        if key not in self._replies:
            self._replies[key] = send()
        return self._replies[key]

    def document(self, **more: Any) -> dict[str, Any]:
        """A valid infer request in JSON, with ``more`` keys."""
        return {"inputs": [json_tensor(name, array) for name, array in self.feeds.items()], **more}

    def binary(self, **more: Any) -> tuple[dict[str, Any], bytes]:
        """The same with its tensors behind the JSON."""
        entries, data = zip(*(binary_tensor(*item) for item in self.feeds.items()), strict=True)
        return {"inputs": list(entries), **more}, b"".join(data)

    def post_binary(
        self, document: Any, data: bytes, *, header: str | None = None, path: str | None = None
    ) -> Reply:
        """POST a document with data behind it; ``header`` overrides the true length."""
        head = json.dumps(document).encode()
        headers = {
            HEADER: str(len(head)) if header is None else header,
            "Content-Type": "application/octet-stream",
        }
        return self.send("POST", path or f"{self.path}/infer", head + data, headers)

    def infer(self, document: Any, *, path: str | None = None) -> Answer:
        """POST a JSON document and read the answer.

        Raises:
            Unmet: it is not a well-formed success.
        """
        return read_answer(self.post(f"{path or self.path}/infer", document))

    def infer_binary(self, document: Any, data: bytes) -> Answer:
        """The same with binary tensors."""
        return read_answer(self.post_binary(document, data))

    @cached_property
    def baseline(self) -> Answer:
        """The answer to the plain request, which other ways to ask are compared with."""
        return self.infer(self.document())

    @cached_property
    def extensions(self) -> tuple[str, ...]:
        """What the server advertises; nothing when its metadata is broken."""
        try:
            found = self.get("/v2").object().get("extensions")
        except Unmet:
            return ()
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def outputs(self) -> list[str]:
        return [entry["name"] for entry in self.metadata.get("outputs") or []]

    @property
    def versions(self) -> list[str]:
        """The versions that the model lists.

        Raises:
            NotApplicable: it lists none.
        """
        found = self.metadata.get("versions")
        if not isinstance(found, list) or not found:
            raise NotApplicable("the model lists no versions")
        return found

    def need(self, extension: str) -> None:
        """Go on if the server advertises that extension.

        Raises:
            NotApplicable: it does not.
        """
        if extension not in self.extensions:
            raise NotApplicable(f"the server does not advertise {extension}")

    def check_same(self, outputs: Mapping[str, Array]) -> None:
        """Go on if these outputs are those of the plain request.

        Raises:
            Unmet: they are not.
        """
        wanted = self.baseline.outputs
        expect(sorted(outputs) == sorted(wanted), f"outputs {sorted(wanted)}", sorted(outputs))
        for name, array in outputs.items():
            expected = f"the plain request's {name!r}, {wanted[name].ravel()[:4]}"
            expect(same(array, wanted[name]), expected, array.ravel()[:4])

    def _connected(self) -> httpx.Client:
        try:
            # A connection each: servers close theirs after an error, and the next clause would pay.
            client = httpx.Client(
                base_url=self.url,
                timeout=60,
                headers=self.headers,
                limits=httpx.Limits(max_keepalive_connections=0),
            )
            client.get("/v2")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TargetError(
                f"does not answer: {error}",
                where=self.url,
                fix="Start the server, or check the URL: http://HOST:PORT",
            ) from error
        return client

    def _first_ready(self) -> str:
        reply = self.post("/v2/repository/index", {})
        try:
            listed = reply.json() if reply.status == 200 else []
            names = [entry["name"] for entry in listed if entry.get("state") == "READY"]
        except (Unmet, AttributeError, KeyError, TypeError):
            names = []
        if not names:
            raise TargetError(
                f"the repository index names no ready model: {reply}",
                where=self.url,
                fix="Say which with --model NAME",
            )
        return str(names[0])

    def _metadata(self) -> dict[str, Any]:
        reply = self.get(self.path)
        try:
            return reply.object()
        except Unmet as error:
            raise TargetError(
                f"has no metadata of model {self.model!r}: {reply}",
                where=self.url,
                fix="Check --model",
            ) from error

    def _made_feeds(self) -> dict[str, Array]:
        listed = self.metadata.get("inputs") or []
        reply: Reply | None = None
        try:
            for size in _SIZES:
                self.feeds = {
                    entry["name"]: make_array(entry["shape"], entry["datatype"], size)
                    for entry in listed
                }
                reply = self.post(f"{self.path}/infer", self.document())
                if self.feeds and reply.status == 200:
                    return self.feeds
        except (KeyError, TypeError, ValueError) as error:
            reason = f"inputs in the metadata of {self.model!r} are unusable: {error!r}"
        else:
            reason = f"no input made from the metadata of {self.model!r} is taken: {reply}"
        raise TargetError(reason, where=self.url, fix="Give a good one with --input file.npz")

    def _check_feeds(self) -> None:
        for name, array in self.feeds.items():
            if array.dtype.kind in "SU":
                self.feeds[name] = np.array(np.char.encode(array.astype(str)), object)
            elif array.dtype.kind != "O" and array.dtype not in DATATYPES.values():
                raise TargetError(
                    f"the protocol has no datatype for {array.dtype}", where=f"input {name!r}"
                )


def read_answer(reply: Reply) -> Answer:
    """The outputs of a successful inference.

    Raises:
        Unmet: it failed, or shapes, datatypes and lengths do not fit together.
    """
    expect(reply.status == 200, "status 200", reply)
    declared = reply.headers.get(HEADER)
    expect(declared is None or declared.isdigit(), f"a number in {HEADER}", declared)
    length = len(reply.body) if declared is None else int(declared)
    document = Reply(200, {}, reply.body[:length]).object()
    told = "'outputs' to be a list of objects with a name"
    listed = as_list(document.get("outputs"), told)
    well = all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in listed)
    expect(well, told, document)
    outputs, at = {}, length
    for entry in listed:
        parameters = entry.get("parameters") or {}
        expect(isinstance(parameters, dict), "'parameters' to be an object", entry)
        size = parameters.get("binary_data_size")
        if size is None:
            outputs[entry["name"]] = read_json(entry)
            continue
        expect(type(size) is int and size >= 0, "a whole binary_data_size", entry)
        expect("data" not in entry, "no 'data' in a binary output", entry)
        outputs[entry["name"]] = read_binary(entry, reply.body[at : at + size])
        at += size
    expect(at == len(reply.body), "nothing behind the last tensor", f"{len(reply.body) - at} bytes")
    return Answer(document, outputs, reply)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
