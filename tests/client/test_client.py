"""Both clients against the real daemon, and against small servers that do what a test says."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.client import AsyncClient, Client, ClientError
from edgekit.client.calls import Calls
from tests.client.conftest import Use, blocking
from tests.client.servers import Answer, Request, answering, echo, scripted
from tests.conftest import batches

FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
JSON = {"Content-Type": "application/json"}
BUSY: Answer = (503, {}, b'{"error": "loading"}')


@pytest.fixture
def ask(use: Use, served: str, token: tuple[Path, str]) -> Callable[..., Any]:
    return lambda call: use(served, call, token=token[1])


@pytest.mark.parametrize("binary", [None, True, False])
def test_a_model_answers_what_its_engine_computes(
    ask: Callable[..., Any], built: Path, binary: bool | None
) -> None:
    feeds = next(batches(1))
    bundle = Bundle.open(built)
    with runtimes.get("onnxruntime").load(bundle.file(bundle.selected("onnxruntime"))) as session:
        wanted = session.run(feeds)["logits"]
    found = ask(lambda c: c.infer("residual", feeds, version=1, outputs=["logits"], binary=binary))
    assert set(found) == {"logits"}
    np.testing.assert_allclose(found["logits"], wanted, rtol=1e-5, atol=1e-6)


def test_the_server_and_its_models_tell_what_they_are(ask: Callable[..., Any]) -> None:
    assert ask(lambda c: c.live()) is True
    assert ask(lambda c: c.ready()) is True
    assert ask(lambda c: c.ready("residual", version="1")) is True
    assert ask(lambda c: c.metadata())["name"] == "edgekit"
    assert ask(lambda c: c.metadata("residual", 1))["inputs"][0]["name"] == "image"
    (listed,) = ask(lambda c: c.models())
    assert (listed["name"], listed["state"]) == ("residual", "READY")
    assert ask(lambda c: c.statistics())["model_stats"][0]["name"] == "residual"
    assert ask(lambda c: c.statistics("residual"))["model_stats"][0]["version"] == "1"


@pytest.mark.parametrize("status", [400, 404, 503])
def test_however_a_server_says_it_a_model_is_not_ready(status: int) -> None:
    with answering(scripted((status, {}, b"{}"))) as (url, requests):
        assert blocking(url, lambda c: c.ready("m")) is False
    assert len(requests) == 1  # a question, not a call that has to succeed


@pytest.mark.parametrize("status", [401, 404, 500])
def test_something_else_than_a_server_of_the_protocol_is_no_answer(status: int) -> None:
    with (
        answering(scripted((status, {}, b"{}"))) as (url, _),
        pytest.raises(ClientError, match=f"answered {status}"),
    ):
        blocking(url, lambda c: c.ready())


def test_models_are_unloaded_and_loaded(ask: Callable[..., Any]) -> None:
    ask(lambda c: c.unload("residual"))
    assert ask(lambda c: c.ready("residual")) is False
    ask(lambda c: c.load("residual"))
    assert ask(lambda c: c.ready("residual")) is True


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda c: c.infer("residul", {}), 404, "unknown model 'residul'.*Ask models"),
        (lambda c: c.load("a..b"), 400, "cannot be the name of a model"),
        (lambda c: c.metadata("residual", "9"), 404, "unknown version '9'"),
        (lambda c: c.infer("residual", FEEDS), 400, "'image' is missing"),
        (lambda c: c.infer("residual", {"image": np.zeros(3)}), 400, "float64, expected float32"),
    ],
)
def test_what_the_server_refuses_is_told_with_its_reason_and_what_to_do(
    ask: Callable[..., Any], served: str, call: Any, status: int, message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        ask(call)
    assert caught.value.status == status
    assert str(caught.value).startswith(f"{served}/v2/")


@pytest.mark.parametrize("token_given", [None, "wrong"])
def test_without_the_right_token_the_error_says_so(
    use: Use, served: str, token_given: str | None
) -> None:
    with pytest.raises(ClientError, match=r"answered 401: .*token.*Give a token that") as caught:
        use(served, lambda c: c.infer("residual", FEEDS, binary=True), token=token_given)
    assert caught.value.status == 401


def test_a_busy_server_is_asked_again(use: Use) -> None:
    limited: Answer = (429, {"Retry-After": "0"}, b"{}")
    answer = scripted(BUSY, limited, (200, {}, b'[{"name": "m"}]'))
    with answering(answer) as (url, requests):
        assert use(url, lambda c: c.models()) == [{"name": "m"}]
    assert len(requests) == 3
    assert {request.body for request in requests} == {b"{}"}  # the body is sent each time


def test_a_large_body_is_sent_whole_each_time(use: Use) -> None:
    large = {"x": np.arange(2**20, dtype=np.float32), "y": np.arange(3, dtype=np.int8)}
    first = [BUSY]

    def answer(request: Request) -> Answer:
        return first.pop() if first else echo(request)

    with answering(answer) as (url, requests):
        found = use(url, lambda c: c.infer("echo", large, binary=True))
    for name, array in large.items():
        np.testing.assert_array_equal(found[name], array)
    assert requests[0].body == requests[1].body


def test_it_gives_up_after_its_retries_with_the_last_reason() -> None:
    with (
        answering(scripted(BUSY)) as (url, requests),
        pytest.raises(ClientError, match=r"answered 503: loading\. Ask ready\(\)"),
    ):
        blocking(url, lambda c: c.load("m"), retries=1)
    assert len(requests) == 2


@pytest.mark.parametrize("status", [400, 404, 413, 500, 504])
def test_other_failures_are_not_tried_again(status: int) -> None:
    with (
        answering(scripted((status, JSON, b'{"error": "no"}'))) as (url, requests),
        pytest.raises(ClientError, match=f"answered {status}: no") as caught,
    ):
        blocking(url, lambda c: c.load("m"))
    assert caught.value.status == status
    assert len(requests) == 1


def test_it_never_waits_beyond_the_deadline() -> None:
    with answering(scripted((503, {"Retry-After": "20"}, b"{}"))) as (url, requests):
        start = time.monotonic()
        with pytest.raises(ClientError, match="answered 503"):
            blocking(url, lambda c: c.infer("m", FEEDS, deadline=10, binary=True))
    assert time.monotonic() - start < 5
    assert len(requests) == 1


def test_it_waits_as_the_server_says_and_tells_it_what_is_left_of_the_deadline(use: Use) -> None:
    first = [(503, {"Retry-After": "1"}, b"{}")]
    with answering(lambda request: first.pop() if first else echo(request)) as (url, requests):
        use(url, lambda c: c.infer("echo", FEEDS, deadline=9, binary=True))
    assert 1 <= requests[1].at - requests[0].at < 5
    told = [int(request.headers["x-request-timeout-ms"]) for request in requests]
    assert 8000 < told[0] <= 9000
    assert told[1] <= told[0] - 1000


def test_a_server_that_does_not_answer_is_left_at_the_deadline(use: Use) -> None:
    with answering(lambda _: None) as (url, requests):
        start = time.monotonic()
        with pytest.raises(ClientError, match=r"no answer in time\. Give it a later deadline"):
            use(url, lambda c: c.infer("m", FEEDS, deadline=0.3, binary=True))
        assert 0.25 < time.monotonic() - start < 3
    assert len(requests) == 1


def test_a_deadline_that_has_passed_asks_nobody() -> None:
    with (
        answering(echo) as (url, requests),
        pytest.raises(ClientError, match="the deadline has passed"),
    ):
        blocking(url, lambda c: c.infer("m", FEEDS, deadline=0, binary=True))
    assert requests == []


def test_a_connection_that_breaks_is_tried_again(use: Use) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"

    def serve(listener: socket.socket) -> None:
        for content in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[", answer):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(content)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        assert use(f"127.0.0.1:{listener.getsockname()[1]}", lambda c: c.models()) == []
        thread.join(10)


def test_where_nothing_listens_the_error_says_so(use: Use) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ClientError, match=r"no answer: .*Check the URL, and that the server runs"):
        use(f"http://127.0.0.1:{port}", lambda c: c.metadata(), retries=1)
    with pytest.raises(ClientError, match="no answer"):
        use(f"http://127.0.0.1:{port}", lambda c: c.live())


@pytest.mark.parametrize("url", ["", "http://", "ftp://host", "http://host:port", "http://a\nb"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ClientError, match=r"Give a URL such as http://127\.0\.0\.1:8000"):
        blocking(url, lambda c: c.metadata(), retries=0)


@pytest.mark.parametrize("token_given", ["", " ", "a\nb", "\N{SNOWMAN}"])
def test_what_is_no_token_is_refused_and_not_shown(token_given: str) -> None:
    with pytest.raises(ClientError, match="is not a token") as caught:
        blocking("http://host", lambda c: c.metadata(), token=token_given)
    assert "SNOWMAN" not in str(caught.value)


@pytest.mark.parametrize("extensions", [[], ["model_repository"]])
def test_a_server_without_binary_tensors_is_asked_in_json(extensions: list[str]) -> None:
    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return 200, {}, json.dumps({"name": "other", "extensions": extensions}).encode()
        assert "inference-header-content-length" not in request.headers
        return echo(request)

    with answering(answer) as (url, _):
        found = blocking(url, lambda c: c.infer("echo", FEEDS))
    np.testing.assert_array_equal(found["x"], FEEDS["x"])


def test_a_server_is_asked_once_what_it_can() -> None:
    with answering(echo) as (url, requests), Client(url) as client:
        for _ in range(3):
            client.infer("echo", FEEDS)
    assert [request.path for request in requests] == ["/v2", *["/v2/models/echo/infer"] * 3]


def test_names_are_one_part_of_the_path_whatever_is_in_them() -> None:
    with answering(scripted((200, {}, b"{}"))) as (url, requests):
        blocking(f"{url}/prefix/", lambda c: c.metadata("a/../b?c", "1/2"))
    assert requests[0].path == "/prefix/v2/models/a%2F..%2Fb%3Fc/versions/1%2F2"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body"]}]}', "loc"),
        (b"<h1>Bad\nGateway</h1>", "<h1>Bad Gateway</h1>"),
        (b"", "answered 502"),
        (b"\xff", "answered 502"),
        (b"[1]", "[1]"),
    ],
)
def test_reasons_of_other_servers_are_told_too(body: bytes, reason: str) -> None:
    with answering(scripted((502, {}, body))) as (url, _), pytest.raises(ClientError) as caught:
        blocking(url, lambda c: c.load("m"))
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_that_is_not_json_is_refused() -> None:
    with (
        answering(scripted((200, {}, b"<html>"))) as (url, _),
        pytest.raises(ClientError, match="but not with JSON"),
    ):
        blocking(url, lambda c: c.metadata())


def test_a_redirect_is_not_followed_with_the_token() -> None:
    with (
        answering(scripted((307, {"Location": "http://elsewhere.example/"}, b""))) as (
            url,
            requests,
        ),
        pytest.raises(ClientError, match="answered 307"),
    ):
        blocking(url, lambda c: c.metadata(), token="secret")  # noqa: S106, of nobody
    assert len(requests) == 1


def test_predict_sends_a_file_as_what_it_is(tmp_path: Path) -> None:
    content = b"\x89PNG\r\n\x1a\n..."
    (tmp_path / "file").write_bytes(content)
    with (
        answering(scripted((200, {}, b'{"label": "7"}'))) as (url, requests),
        Client(url) as client,
    ):
        for source in (content, tmp_path / "file", str(tmp_path / "file")):
            assert client.predict("m", source) == {"label": "7"}
    for request in requests:
        assert (request.path, request.headers["content-type"]) == ("/predict/m", "image/png")
        assert request.body == content


def test_a_file_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="cannot be read: No such file"):
        blocking("http://host", lambda c: c.predict("m", tmp_path / "none.png"))


def test_both_clients_have_every_call_with_its_own_documentation() -> None:
    calls = {name for name in vars(Calls) if not name.startswith("_")}
    assert {"infer", "predict", "load"} <= calls
    for kind in (Client, AsyncClient):
        for name in calls:
            method = getattr(kind, name)
            assert method.__doc__ == getattr(Calls, name).__doc__
            assert inspect.signature(method) == inspect.signature(getattr(Calls, name))


def test_it_imports_no_server_and_no_torch() -> None:
    code = "import sys, edgekit.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "edgekit.client.http" in loaded
    assert not loaded & {
        "torch", "fastapi", "starlette", "uvicorn", "pydantic", "onnx", "onnxruntime",
        "edgekit.serve.app", "edgekit.serve.server", "edgekit.serve.repository",
    }  # fmt: skip
