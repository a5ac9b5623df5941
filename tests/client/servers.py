"""Small real servers on loopback that do what a test says."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from edgekit.serve.protocol import HEADER_LENGTH, encode_response, parse_request

Headers = dict[str, str]
#: Status, headers and body of an answer.
Answer = tuple[int, Headers, bytes]


@dataclass
class Request:
    """What a server was asked."""

    method: str
    path: str
    headers: Headers
    body: bytes
    at: float = field(default_factory=time.monotonic)


@contextmanager
def answering(answer: Callable[[Request], Answer | None]) -> Iterator[tuple[str, list[Request]]]:
    """A server that answers with what ``answer`` returns, None never; its URL and its requests."""
    requests: list[Request] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request(scope["method"], scope["raw_path"].decode(), headers, body)
        requests.append(request)
        answered = answer(request)
        while answered is None and (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)
        if answered is not None:
            status, extra, content = answered
            fields = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
            fields.append((b"content-length", str(len(content)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": content})

    config = uvicorn.Config(
        application, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            server.should_exit = True
            thread.join(10)


def scripted(*answers: Answer) -> Callable[[Request], Answer]:
    """The answers in turn; the last one goes on."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def echo(request: Request) -> Answer:
    """Its inputs, by edgekit's own reading and writing of the protocol; metadata where asked."""
    if request.method == "GET":
        return 200, {}, b'{"name": "echo", "version": "1", "extensions": ["binary_tensor_data"]}'
    parsed = parse_request(request.body, request.headers.get(HEADER_LENGTH.lower()), ())
    body, length = encode_response("echo", "1", parsed, dict(parsed.inputs))
    return 200, {} if length is None else {HEADER_LENGTH: str(length)}, body
