"""Finding the model and a valid request; what cannot be tested is said at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from edgekit.conformance.clause import Unmet
from edgekit.conformance.target import Reply, Target, TargetError, read_answer
from tests.conformance.small_server import small_server


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """A server with these documents, 404 elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {"error": "unknown"})).encode()
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://[::1", "http://", "", "http://127.0.0.1:1", "ftp://a"]
)
def test_a_url_that_nothing_answers_is_told(url: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target(url)
    assert "does not answer" in str(caught.value)
    assert "http://HOST:PORT" in str(caught.value)


def test_the_first_ready_model_is_taken() -> None:
    with small_server() as url:
        target = Target(f"{url}/")
        assert target.model == "small"
        assert {name: array.shape for name, array in target.feeds.items()} == {
            "number": (1, 3),
            "text": (1, 2),
        }
        target.close()


@pytest.mark.parametrize(
    "index", [[], [{"name": "a", "state": "UNAVAILABLE"}], {"error": "no"}, [3], "text"]
)
def test_an_index_without_a_ready_model_asks_for_its_name(index: Any) -> None:
    with answering({"/v2/repository/index": index}) as url, pytest.raises(TargetError) as caught:
        Target(url)
    assert "--model NAME" in str(caught.value)


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        [],
        [{"name": "x", "datatype": "FP7", "shape": [1]}],
        [{"name": "x", "datatype": "FP32", "shape": None}],
        [{"datatype": "FP32", "shape": [1]}],
        [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],  # right, but never answered 200
    ],
)
def test_metadata_that_gives_no_valid_input_asks_for_one(inputs: Any) -> None:
    metadata = {"name": "a", "inputs": inputs, "outputs": []}
    with answering({"/v2/models/a": metadata}) as url, pytest.raises(TargetError) as caught:
        Target(url, model="a")
    assert "--input file.npz" in str(caught.value)


OUTPUT = {"name": "y", "datatype": "FP32", "shape": [2]}
HEADER = "Inference-Header-Content-Length"


@pytest.mark.parametrize(
    ("entry", "tail", "expected"),
    [
        ({**OUTPUT, "data": [1.0]}, b"", "shape [2]"),
        ({**OUTPUT, "data": "1.0"}, b"", "'data' to be a list"),
        ({**OUTPUT, "data": [1.0, "x"]}, b"", "shape [2]"),
        ({**OUTPUT, "shape": [-2], "data": []}, b"", "a list of sizes"),
        ({**OUTPUT, "datatype": "FP7", "data": []}, b"", "a known datatype"),
        ({"data": [1.0]}, b"", "a list of objects with a name"),
        ({**OUTPUT, "parameters": {"binary_data_size": 8}}, b"1234", "8 bytes for shape [2]"),
        ({**OUTPUT, "parameters": {"binary_data_size": -8}}, b"", "a whole binary_data_size"),
        ({**OUTPUT, "data": [1.0, 2.0]}, b"1234", "nothing behind the last tensor"),
        (
            {**OUTPUT, "data": [], "parameters": {"binary_data_size": 8}},
            b"12345678",
            "no 'data' in a binary output",
        ),
        (
            {**OUTPUT, "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
            b"\x01\0\0\0ab",
            "2 elements of BYTES",
        ),
    ],
)
def test_a_malformed_answer_is_unmet(entry: Any, tail: bytes, expected: str) -> None:
    head = json.dumps({"model_name": "a", "outputs": [entry]}).encode()
    with pytest.raises(Unmet) as caught:
        read_answer(Reply(200, {HEADER: str(len(head))}, head + tail))
    assert expected in caught.value.expected
