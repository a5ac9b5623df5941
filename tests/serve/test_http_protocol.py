"""Whole answers over raw sockets, where every byte and every write can be seen."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from tests.daemon import running
from tests.serve.bundles import scale


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    bundle = scale(tmp_path_factory.mktemp("scale") / "scale.edge", 2.0)
    with running(bundle, "--name", "scale") as (url, _):
        host, _, port = url.partition("://")[2].partition(":")
        yield host, int(port)


def _request(value: float, samples: int = 1, *fields: str, version: str = "1.1") -> bytes:
    x = np.full((samples, 4), value, np.float32)
    entry = {"name": "x", "datatype": "FP32", "shape": x.shape}
    head = orjson.dumps(
        {
            "inputs": [{**entry, "parameters": {"binary_data_size": x.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    )
    lines = [
        f"POST /v2/models/scale/infer HTTP/{version}",
        "Host: 127.0.0.1",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + x.nbytes}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + x.tobytes()


class _Reader:
    """Answers off a socket, one after the other."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self._left = link, b""

    def answer(self) -> tuple[bytes, dict[bytes, bytes], np.ndarray]:
        """Status line, headers, and the one tensor."""
        head = self._until(lambda: self._left.find(b"\r\n\r\n") + 1) + 3
        status, *lines = self._left[: head - 4].split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        end = head + int(fields[b"content-length"])
        self._until(lambda: len(self._left) >= end)
        body, self._left = self._left[head:end], self._left[end:]
        tensor = np.frombuffer(body[int(fields[b"inference-header-content-length"]) :], np.float32)
        return status, fields, tensor

    def _until(self, there: object) -> int:
        assert callable(there)
        while not (found := there()):
            data = self._link.recv(1 << 16)
            assert data, "the server hung up"
            self._left += data
        return int(found)


def test_a_whole_answer_has_every_header_that_a_sent_one_has(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as link:
        reader = _Reader(link)
        link.sendall(_request(1.5))
        status, short, tensor = reader.answer()
        link.sendall(_request(1.5, 1, "Connection: close"))  # goes the long way
        _, long, same = reader.answer()
        assert link.recv(1) == b""
    assert status == b"HTTP/1.1 200 OK"
    assert long.pop(b"connection") == b"close"
    assert short == long
    assert short[b"x-content-type-options"] == b"nosniff"
    np.testing.assert_array_equal(tensor, np.full(4, 3.0))
    np.testing.assert_array_equal(tensor, same)


def test_pipelined_requests_are_answered_in_their_order(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as link:
        link.sendall(b"".join(_request(float(value)) for value in range(20)))
        reader = _Reader(link)
        assert [reader.answer()[2][0] for _ in range(20)] == [2.0 * value for value in range(20)]


def test_a_client_that_reads_slowly_gets_all_of_every_answer(server: tuple[str, int]) -> None:
    samples, requests = 100_000, 4  # 1.6 MB each: more than the buffers of a socket hold
    with socket.create_connection(server) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        link.sendall(_request(1.0, samples))
        reader = _Reader(link)
        for number in range(requests):
            if number + 1 < requests:  # before the last answer is taken
                link.sendall(_request(number + 2.0, samples))
            tensor = reader.answer()[2]
            assert tensor.shape == (samples * 4,)
            assert set(tensor.tolist()) == {2.0 * (number + 1)}


def test_a_client_that_asks_first_is_told_to_go_on(server: tuple[str, int]) -> None:
    whole = _request(1.0, 1, "Expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    with socket.create_connection(server) as link:
        link.sendall(head + b"\r\n\r\n")
        assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(body)
        assert _Reader(link).answer()[2][0] == 2.0


def test_http_1_0_is_answered_and_closed(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as link:
        link.sendall(_request(1.0, version="1.0"))
        assert _Reader(link).answer()[2][0] == 2.0
        assert link.recv(1) == b""
