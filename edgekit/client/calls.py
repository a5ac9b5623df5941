"""What each method of the client sends and reads, and when it tries again: without input or output.

A call is a generator. It yields a request to send or seconds to wait, is sent what came of it, and
returns the result; :mod:`edgekit.client.http` drives it with or without ``await``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import orjson

import edgekit
from edgekit.client.codec import Buffer, Encoded, decode, encode
from edgekit.client.content import content_type
from edgekit.client.errors import ClientError, refusal
from edgekit.client.retry import Outcome, Retry
from edgekit.spec import Array

__all__ = ["Calls", "Steps"]

_T = TypeVar("_T")
Steps: TypeAlias = Generator[httpx.Request | float, Outcome | None, _T]

#: The header with the milliseconds that the client still waits.
_DEADLINE = "X-Request-Timeout-Ms"
_NOTHING = Encoded({}, ())
_JSON_OBJECT = Encoded({"Content-Type": "application/json"}, (b"{}",))
#: How servers say that they are not ready, and that a model is not, which the protocol leaves open:
#: MLServer does not know a model before it is loaded, Triton calls it a bad request.
_NOT_READY = frozenset({503})
_MODEL_NOT_READY = frozenset({400, 404, 503})
#: Bytes given to the transport at once. It copies what each send left over: a tensor of 64 MB takes
#: 9 times as long in one piece.
_CHUNK = 2**20


class Calls:
    """The calls of one server.

    Args:
        url: of the server; ``http://`` may be left out, a path before ``/v2`` is kept.
        token: sent as a bearer token.
        timeout: seconds without a byte until a try is given up.
        retry: when to try again.

    Raises:
        ClientError: the URL is none.
    """

    def __init__(self, url: str, token: str | None, timeout: float, retry: Retry) -> None:
        full = url if "://" in url else f"http://{url}"
        try:
            parsed = httpx.URL(full)
        except httpx.InvalidURL as error:
            raise ClientError(f"is no URL: {error}", where=url, fix=_URL) from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ClientError("is no URL of a server", where=url, fix=_URL)
        self.secure = parsed.scheme == "https"
        self._base = full.rstrip("/").removesuffix("/v2")
        self._headers = {
            "Host": parsed.netloc.decode("ascii"),
            "User-Agent": f"edgekit/{edgekit.__version__}",
        }
        if token is not None:
            if not token.isascii() or not token.isprintable() or not token.strip():
                raise ClientError(
                    "is not a token", where="token", fix="Give the line that edgekit token printed"
                )
            self._headers["Authorization"] = f"Bearer {token.strip()}"
        self._timeout = timeout
        self._retry = retry
        self._binary: bool | None = None

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str | int | None = None,
        outputs: Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002, the protocol's name
        deadline: float | None = None,
        parameters: Mapping[str, str | bool | float] | None = None,
        binary: bool | None = None,
    ) -> Steps[dict[str, Array]]:
        """Run one inference.

        Args:
            model: its name on the server.
            inputs: arrays by name. Their dtype is the datatype that is sent: float16 and
                ``ml_dtypes.bfloat16`` are FP16 and BF16; strings, ``bytes`` and object arrays of
                them are BYTES.
            version: None lets the server choose.
            outputs: names of those wanted, None for all.
            id: said back by the server, and in its logs.
            deadline: seconds that the call may take with all its tries. The server is told what is
                left of them and gives up by itself.
            parameters: of the request, such as ``{"priority": 1}``.
            binary: tensors as bytes, False as JSON. None asks the server once what it can.

        Returns:
            The outputs by name. BYTES are object arrays of ``bytes``.

        Raises:
            ClientError: the call failed; says why, and what to do.
        """
        path = f"{_model(model, version)}/infer"
        ends = None if deadline is None else time.monotonic() + deadline
        if binary is None:
            binary = yield from self._can_binary(ends)
        body = encode(
            inputs,
            binary=binary,
            outputs=outputs,
            id=id,
            parameters=parameters,
            where=self._base + path,
        )
        answer = yield from self._ask("POST", path, body, ends)
        return decode(answer.headers, answer.content, self._base + path)

    def predict(
        self, model: str, source: str | Path | bytes, *, deadline: float | None = None
    ) -> Steps[Any]:
        """Send an image, a sound, an array file or JSON as it is; edgekit's server prepares it.

        Args:
            model: its name on the server.
            source: a file, or what would be in it.
            deadline: as for :meth:`infer`.

        Returns:
            What the server found, such as the best labels.

        Raises:
            ClientError: the file cannot be read, or the call failed.
        """
        data = source
        if not isinstance(data, bytes):
            try:
                data = Path(data).read_bytes()
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                raise ClientError(what, where=str(source), fix="Give the path of a file") from error
        ends = None if deadline is None else time.monotonic() + deadline
        body = Encoded({"Content-Type": content_type(data)}, (data,))
        return (yield from self._json("POST", f"/predict/{quote(model, safe='')}", body, ends))

    def metadata(self, model: str | None = None, version: str | int | None = None) -> Steps[Any]:
        """What the server is, or a model's inputs and outputs."""
        return (yield from self._json("GET", "/v2" if model is None else _model(model, version)))

    def live(self) -> Steps[bool]:
        """Whether the server answers that it is alive.

        Raises:
            ClientError: nothing answers.
        """
        return (yield from self._probe("/v2/health/live", _NOT_READY))

    def ready(self, model: str | None = None, version: str | int | None = None) -> Steps[bool]:
        """Whether all models work, or one does.

        A model that the server does not know is not ready.

        Raises:
            ClientError: nothing answers, or something else than a server of the protocol.
        """
        if model is None:
            return (yield from self._probe("/v2/health/ready", _NOT_READY))
        return (yield from self._probe(f"{_model(model, version)}/ready", _MODEL_NOT_READY))

    def models(self) -> Steps[list[dict[str, Any]]]:
        """Every version of every model: its ``name``, ``version``, ``state`` and ``reason``."""
        listed: list[dict[str, Any]] = yield from self._json(
            "POST", "/v2/repository/index", _JSON_OBJECT
        )
        return listed

    def load(self, model: str) -> Steps[None]:
        """Load a model, or what is new of it; returns when it is ready."""
        yield from self._ask(
            "POST", f"/v2/repository/models/{quote(model, safe='')}/load", _JSON_OBJECT
        )

    def unload(self, model: str) -> Steps[None]:
        """Unload a model after its last answers."""
        yield from self._ask(
            "POST", f"/v2/repository/models/{quote(model, safe='')}/unload", _JSON_OBJECT
        )

    def statistics(self, model: str | None = None, version: str | int | None = None) -> Steps[Any]:
        """Counts and durations (the statistics extension), of all models or of one."""
        path = "/v2/models" if model is None else _model(model, version)
        return (yield from self._json("GET", f"{path}/stats"))

    def _can_binary(self, ends: float | None) -> Steps[bool]:
        if self._binary is None:
            server = yield from self._json("GET", "/v2", ends=ends)
            self._binary = "binary_tensor_data" in server.get("extensions", ())
        return self._binary

    def _probe(self, path: str, no: Collection[int]) -> Steps[bool]:
        outcome = yield from _sent(self._request("GET", path, _NOTHING, None))
        if isinstance(outcome, httpx.Response) and (
            outcome.is_success or outcome.status_code in no
        ):
            return outcome.is_success
        raise self._error(path, outcome)

    def _json(
        self, method: str, path: str, body: Encoded = _NOTHING, ends: float | None = None
    ) -> Steps[Any]:
        answer = yield from self._ask(method, path, body, ends)
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            what = f"answered {answer.status_code}, but not with JSON"
            raise ClientError(
                what, where=self._base + path, status=answer.status_code, fix=_URL
            ) from error

    def _ask(
        self, method: str, path: str, body: Encoded = _NOTHING, ends: float | None = None
    ) -> Steps[httpx.Response]:
        """One call with all its tries; ``ends`` is in ``time.monotonic``."""
        tried = 0
        while True:
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                raise ClientError("the deadline has passed", where=self._base + path, fix=_LATER)
            outcome = yield from _sent(self._request(method, path, body, left))
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                return outcome
            tried += 1
            wait = self._retry.wait(tried, outcome)
            if wait is None or (ends is not None and time.monotonic() + wait >= ends):
                raise self._error(path, outcome)
            yield wait

    def _request(self, method: str, path: str, body: Encoded, left: float | None) -> httpx.Request:
        headers = self._headers | body.headers
        if body.parts or method == "POST":
            headers["Content-Length"] = str(sum(map(len, body.parts)))
        timeout = self._timeout
        if left is not None:
            headers[_DEADLINE] = str(max(1, int(left * 1e3)))
            timeout = min(timeout, left)
        return httpx.Request(
            method,
            self._base + path,
            headers=headers,
            stream=_Body(body.parts),
            extensions={"timeout": httpx.Timeout(timeout).as_dict()},
        )

    def _error(self, path: str, outcome: Outcome) -> ClientError:
        where = self._base + path
        if isinstance(outcome, httpx.Response):
            return refusal(outcome.status_code, _reason(outcome), where)
        if isinstance(outcome, httpx.TimeoutException):
            return ClientError("no answer in time", where=where, fix=_LATER)
        what = str(outcome) or type(outcome).__name__
        return ClientError(
            f"no answer: {what}", where=where, fix="Check the URL, and that the server runs"
        )


_URL = "Give a URL such as http://127.0.0.1:8000"
_LATER = "Give it a later deadline or a longer timeout"


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The parts of a body, as often as they are tried to be sent.

    Short ones go as one, long ones in pieces, which the transport copies one at a time.
    """

    def __init__(self, parts: tuple[Buffer, ...]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        if sum(map(len, self._parts)) <= _CHUNK:
            yield b"".join(self._parts)
            return
        for part in self._parts:
            for start in range(0, len(part), _CHUNK):
                yield part[start : start + _CHUNK]  # type: ignore[misc]  # a view does as well

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def _sent(request: httpx.Request) -> Steps[Outcome]:
    outcome = yield request
    assert outcome is not None, "only a wait has no outcome"
    return outcome


def _model(name: str, version: str | int | None) -> str:
    path = f"/v2/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _reason(response: httpx.Response) -> str:
    """Why the server refused: the protocol's ``error``, or what other servers write instead."""
    try:
        document = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return response.text[:200]
    if isinstance(document, dict):
        document = document.get("error") or document.get("detail") or document
    return str(document)[:1000]
