"""What a real server does with requests under way: it is stopped, its clients leave."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from edgekit.verify import Reference
from tests.daemon import Server, start

INFER = "/v2/models/residual/infer"


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Stalled:
    """A server whose engine, a process of its own, is stopped and goes on when the test says."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=30)
        children = psutil.Process(server.process.pid).children()
        (self._engine,) = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        self.stop()

    def stop(self) -> None:
        self._engine.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._engine.send_signal(signal.SIGCONT)

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):  # the server has ended, and it with it
            self.go_on()
        self.client.close()
        self.server.process.kill()
        self.server.process.communicate()

    def pending(self) -> int:
        text = self.client.get("/v2/models/residual/stats").json()
        stats = text["model_stats"][0]["inference_stats"]
        return int(stats["success"]["count"] + stats["fail"]["count"])


@pytest.fixture
def stalled(built: Path) -> Iterator[Stalled]:
    running = Stalled(start(built, "--isolate", "--runtime", "onnxruntime", "--max-batch", "1"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def request_body(built: Path) -> bytes:
    sample = Reference.load(built / "reference.npz").feeds[0]["image"]
    entry = {"name": "image", "shape": list(sample.shape), "datatype": "FP32"}
    return json.dumps({"inputs": [{**entry, "data": sample.ravel().tolist()}]}).encode()


def test_sigterm_answers_what_was_taken_and_refuses_what_comes_after(
    stalled: Stalled, request_body: bytes
) -> None:
    client, process = stalled.client, stalled.server.process
    with ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(client.post, INFER, content=request_body) for _ in range(2)]
        time.sleep(0.3)  # both are in the queue; nothing tells so from outside
        process.send_signal(signal.SIGTERM)
        _until(lambda: client.get("/v2/health/ready").status_code == 503)
        late = client.post(INFER, content=request_body)
        assert late.status_code == 503
        assert late.headers["Retry-After"] == "1"
        assert client.get("/v2/health/live").status_code == 200
        stalled.go_on()
        answers = [one.result(20) for one in taken]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert np.isfinite(answers[0].json()["outputs"][0]["data"]).all()
    process.communicate(timeout=20)
    assert process.returncode in {0, -signal.SIGTERM}


def test_a_second_signal_ends_at_once(stalled: Stalled, request_body: bytes) -> None:
    process = stalled.server.process
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(stalled.client.post, INFER, content=request_body)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _until(lambda: stalled.client.get("/v2/health/ready").status_code == 503)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert isinstance(taken.exception(20), httpx.TransportError)


def test_a_client_that_hangs_up_is_taken_out_of_the_queue(
    stalled: Stalled, request_body: bytes
) -> None:
    address = stalled.server.address.split(":")
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request_body)}\r\n\r\n"
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(stalled.client.post, INFER, content=request_body)
        time.sleep(0.3)
        with socket.create_connection((address[0], int(address[1]))) as gone:
            gone.sendall(head.encode() + request_body)
            time.sleep(0.3)
        _until(lambda: stalled.pending() == 1)  # the one that failed: the first still waits
        stalled.go_on()
        assert first.result(20).status_code == 200
    stats = stalled.client.get("/v2/models/residual/stats").json()["model_stats"][0]
    assert stats["execution_count"] == 1
    assert stats["inference_stats"]["fail"]["count"] == 1


@pytest.mark.parametrize("by", ["header", "parameter"])
def test_a_deadline_is_kept_while_the_engine_stands_still(
    stalled: Stalled, request_body: bytes, by: str
) -> None:
    headers = {"X-Request-Timeout-Ms": "150"} if by == "header" else {}
    document = json.loads(request_body)
    if by == "parameter":
        document["parameters"] = {"timeout": 150_000}  # microseconds, as Triton's
    start = time.monotonic()
    answer = stalled.client.post(INFER, json=document, headers=headers)
    assert answer.status_code == 504
    assert time.monotonic() - start < 5
    assert "deadline" in answer.json()["error"]


def test_a_full_queue_is_429_with_retry_after(
    built: Path, request_body: bytes, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("defaults: {queue: 1, max_batch: 1}\n")
    running = Stalled(
        start(
            built,
            "--isolate",
            "--runtime",
            "onnxruntime",
            "--config",
            str(tmp_path / "config.yaml"),
        )
    )
    try:
        with ThreadPoolExecutor(2) as pool:
            taken = [
                pool.submit(running.client.post, INFER, content=request_body) for _ in range(2)
            ]
            time.sleep(0.3)
            answer = running.client.post(INFER, content=request_body)
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) >= 1
            running.go_on()
            assert [one.result(20).status_code for one in taken] == [200, 200]
    finally:
        running.end()
