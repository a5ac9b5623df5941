"""Both kinds of servers as targets: a real one, and small ones that misbehave."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EdgekitError, GateError
from edgekit.profile.records import Settings
from edgekit.profile.targets.base import UNANSWERED, GiveUp, Until
from edgekit.profile.targets.connect import Access, connect, parse_url
from edgekit.profile.targets.http import HttpTarget
from edgekit.profile.targets.remote import Remote, _PreciseSelector
from tests.daemon import start, stop
from tests.profile.targets.conftest import Served, grpc_address

FEEDS = {"image": np.zeros((1, 4), np.float32)}


@pytest.fixture(params=["http", "grpc"])
def target(request: pytest.FixtureRequest, served: Served) -> Iterator[Remote]:
    address = parse_url(served.url(request.param))
    connected = connect(address, Settings(streams=4, batch=2), Access(served.token))
    with connected.target as found:
        assert isinstance(found, Remote)
        yield found


def test_a_closed_loop_sends_when_the_last_is_answered(target: Remote) -> None:
    run = target.closed_loop(Until(seconds=0.05, queries=20))
    assert run.latencies.size == run.queries >= 20
    assert run.seconds >= 0.05
    assert (run.due[1:] >= run.done[:-1]).all()


def test_a_query_of_several_samples_is_answered_with_the_last(target: Remote) -> None:
    run = target.closed_loop(Until(seconds=0, queries=3), samples=8)
    assert (run.queries, run.samples, run.latencies.size) == (3, 8, 3)


def test_an_open_loop_sends_on_schedule_and_notes_its_own_lateness(target: Remote) -> None:
    due = np.arange(50) * 5_000_000
    run = target.open_loop(due)
    assert run.due.tolist() == due.tolist()
    assert run.latencies.size == 50
    assert (run.late > 0).all()
    assert (run.latencies > run.late).all()


def test_all_at_once_keeps_so_many_under_way_as_there_are_streams(target: Remote) -> None:
    run = target.at_once(30)
    assert (run.queries, run.samples, run.latencies.size) == (30, 2, 30)
    under_way = [((run.due <= at) & (run.done > at)).sum() for at in run.due]
    assert max(under_way) <= 4


@pytest.mark.parametrize(("scheme", "status"), [("http", "429"), ("grpc", "RESOURCE_EXHAUSTED")])
def test_a_full_queue_drops_queries_and_says_why(
    built: Path, tmp_path: Path, scheme: str, status: str
) -> None:
    # None may wait while another is computed, and of so many at once some come meanwhile.
    config = tmp_path / "config.yaml"
    config.write_text("defaults: {queue: 0}")
    server = start(built, "--runtime", "onnxruntime", "--grpc-port", "0", "--config", str(config))
    try:
        urls = {"http": server.url, "grpc": f"grpc://{grpc_address(server)}"}
        connected = connect(parse_url(f"{urls[scheme]}/residual"), Settings(), Access())
        with connected.target as target:
            due = np.zeros(500, np.int64)
            run = target.open_loop(due)
            assert list(run.dropped) == [f"answered {status}: 0 requests are waiting"]
            assert (run.done == UNANSWERED).sum() == sum(run.dropped.values()) > 0
            assert target.open_loop(due, GiveUp(latency=10**12, most=0)).given_up
    finally:
        stop(server)


def test_connections_stay_open_for_the_next_query(served: Served) -> None:
    connected = connect(parse_url(served.url("http")), Settings(), Access(served.token))
    with connected.target as target:
        assert isinstance(target, HttpTarget)
        target.closed_loop(Until(0, 20))
        assert len(target._open) == 1


@contextmanager
def _answering(answer: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[HttpTarget]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                while self.rfile.readline():
                    length = 0
                    while (line := self.rfile.readline().strip()) != b"":
                        name, _, value = line.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                    self.rfile.read(length)
                    answer(self)
            except OSError:
                return  # the client closed first

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            with HttpTarget(url, "m", lambda _: FEEDS) as target:
                yield target
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_closes_each_connection_is_asked_on_new_ones() -> None:
    def answer(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        handler.request.shutdown(1)

    with _answering(answer) as target:
        assert target.closed_loop(Until(0, 5)).latencies.size == 5


def test_an_answer_in_chunks_is_read_to_its_end() -> None:
    def answer(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    with _answering(answer) as target:
        assert target.closed_loop(Until(0, 5)).latencies.size == 5


def test_refusals_are_dropped_queries_with_status_and_reason() -> None:
    def answer(handler: socketserver.StreamRequestHandler) -> None:
        body = b'{"error": "the queue is full, 17 wait"}'
        handler.wfile.write(b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with _answering(answer) as target:
        run = target.open_loop(np.arange(5) * 1_000_000)
        assert run.dropped == {"answered 503: the queue is full": 5}
        assert run.latencies.size == 0
        with pytest.raises(GateError, match="not one query was answered"):
            target.warm_up(0.01)


@pytest.mark.parametrize("reply", [b"", b"not HTTP at all\r\n\r\n"])
def test_a_connection_that_breaks_is_a_dropped_query(reply: bytes) -> None:
    def answer(handler: socketserver.StreamRequestHandler) -> None:
        handler.wfile.write(reply)
        handler.wfile.flush()
        handler.request.shutdown(2)

    with _answering(answer) as target:
        run = target.open_loop(np.arange(3) * 1_000_000)
        assert sum(run.dropped.values()) == 3


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.profile.targets.remote.PATIENCE", 0.1)
    with _answering(lambda _: None) as target:
        run = target.open_loop(np.array([0, 1_000_000]))
        assert sum(run.dropped.values()) == 2
        assert run.latencies.size == 0


def test_a_server_that_went_away_is_one_line() -> None:
    target = HttpTarget("http://127.0.0.1:1", "m", lambda _: FEEDS)
    with target, pytest.raises(EdgekitError, match="cannot be asked: no connection"):
        target.closed_loop(Until(0, 1))


def test_the_generator_wakes_to_the_microsecond() -> None:
    # A busy machine wakes anybody late, but not each time.
    selector = _PreciseSelector()
    took = []
    for _ in range(200):
        start = time.perf_counter()
        selector.select(0.0002)
        took.append(time.perf_counter() - start)
    selector.close()
    assert 0.0002 <= min(took) < 0.0009
