"""HTTP over raw sockets: as little as a client can cost, the same for every server.

    python benchmarks/serving_client.py PORT closed CONNECTIONS SECONDS < request
    python benchmarks/serving_client.py PORT open RATE SECONDS < request

Prints a :class:`Load` as JSON.
"""

from __future__ import annotations

import json
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field

__all__ = ["Connection", "Load", "Reply", "request", "run_clients", "started", "told"]

#: Connections of an open loop; the system allows a process 1,024 files.
MOST = 900


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST on a connection that stays open."""
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    head: bytes
    body: bytes

    def field(self, name: str) -> bytes:
        """The value of a header."""
        return _field(self.head, name.lower().encode())


class Connection:
    """One connection to a server on this machine.

    ``send`` and ``receive`` are apart, so that one thread can hold many connections;
    :meth:`receive` returns None while the answer is not whole.
    """

    def __init__(self, port: int, timeout: float | None = 60) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, message: bytes) -> None:
        self.socket.sendall(message)

    def receive(self) -> Reply | None:
        """Read once.

        Raises:
            ConnectionError: the server closed the connection.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._buffer[:end]
        length = int(_field(head, b"content-length"))
        if len(self._buffer) < end + 4 + length:
            return None
        body, self._buffer = self._buffer[end + 4 :], b""
        return Reply(int(head[9:12]), head, body)

    def ask(self, message: bytes) -> Reply:
        self.send(message)
        while True:
            if reply := self.receive():
                return reply

    def close(self) -> None:
        self.socket.close()


def _field(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        raise ValueError(f"no {name.decode()} in {head!r}")
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


@dataclass
class Load:
    """What one client process saw.

    Attributes:
        seconds: how long it asked.
        latencies: seconds of each answer with status 200; from when it was due, in an open loop.
        statuses: how many answers had each status; 0 for a connection that broke.
        bodies: how many answers with status 200 had each body.
        unsent: requests of an open loop for which no connection was left.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    bodies: dict[str, int] = field(default_factory=dict)
    unsent: int = 0

    def note(self, reply: Reply, since: float) -> None:
        self._count(reply.status)
        if reply.status == 200:
            self.latencies.append(time.perf_counter() - since)
            body = reply.body.decode("latin-1")
            self.bodies[body] = self.bodies.get(body, 0) + 1

    def broke(self) -> None:
        self._count(0)

    def _count(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    @property
    def good(self) -> int:
        return self.statuses.get(200, 0)

    @property
    def bad(self) -> int:
        return sum(self.statuses.values()) - self.good

    @property
    def per_second(self) -> float:
        return self.good / self.seconds


class Loop:
    """Many connections in one thread, each with one request under way at most."""

    def __init__(self, port: int, message: bytes) -> None:
        self.load = Load()
        self.free: deque[Connection] = deque()
        self._port, self._message = port, message
        self._watch = selectors.DefaultSelector()
        self._since: dict[Connection, float] = {}

    @property
    def connections(self) -> int:
        return len(self._watch.get_map())

    @property
    def busy(self) -> int:
        return len(self._since)

    def join(self) -> None:
        connection = Connection(self._port)
        self._watch.register(connection.socket, selectors.EVENT_READ, connection)
        self.free.append(connection)

    def send(self, since: float) -> None:
        """Ask on a free connection; the latency counts from ``since``."""
        connection = self.free.popleft()
        self._since[connection] = since
        with suppress(OSError):  # the next read says the same
            connection.send(self._message)

    def read(self, timeout: float) -> None:
        """Note the answers that are there; their connections are free again."""
        for key, _ in self._watch.select(timeout):
            connection = key.data
            try:
                reply = connection.receive()
            except OSError:
                self._lost(connection)
                continue
            if reply is not None:
                self.load.note(reply, self._since.pop(connection))
                self.free.append(connection)

    def _lost(self, connection: Connection) -> None:
        self._watch.unregister(connection.socket)
        connection.close()
        if connection in self.free:  # servers may close those that nobody uses
            self.free.remove(connection)
            return
        del self._since[connection]
        self.load.broke()
        self.join()

    def close(self) -> None:
        for key in list(self._watch.get_map().values()):
            key.data.close()
        self._watch.close()


def closed_loop(port: int, message: bytes, connections: int, seconds: float) -> Load:
    """Keep every connection busy: the next request leaves when the answer to the last is there.

    Ends sooner at SIGTERM.
    """
    loop = Loop(port, message)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    begin = time.perf_counter()
    for _ in range(connections):
        loop.join()
    while time.perf_counter() - begin < seconds and not stopped:
        while loop.free:
            loop.send(time.perf_counter())
        loop.read(timeout=1)
    loop.load.seconds = time.perf_counter() - begin
    loop.close()
    return loop.load


def open_loop(port: int, message: bytes, rate: float, seconds: float) -> Load:
    """Requests at random times (Poisson), whatever becomes of the ones before."""
    loop = Loop(port, message)
    chance = random.Random(0)  # noqa: S311
    begin = time.perf_counter()
    due = begin
    while (now := time.perf_counter()) < begin + seconds:
        while due <= now:
            if not loop.free and loop.connections < MOST:
                loop.join()
            if loop.free:
                loop.send(due)
            else:
                loop.load.unsent += 1
            due += chance.expovariate(rate)
        loop.read(max(0.0, due - time.perf_counter()))
    loop.load.seconds = time.perf_counter() - begin
    while loop.busy and time.perf_counter() < begin + seconds + 10:
        loop.read(timeout=1)
    loop.close()
    return loop.load


def run_clients(port: int, message: bytes, how: str, many: float, seconds: float) -> Load:
    """A loop, ``closed`` or ``open``, in a process of its own, which imports nothing else."""
    with started(port, message, how, many, seconds) as process:
        return told(process)


def started(
    port: int, message: bytes, how: str, many: float, seconds: float
) -> subprocess.Popen[bytes]:
    """The process of :func:`run_clients`, at work; :func:`told` waits for what it saw."""
    command = [sys.executable, __file__, str(port), how, str(many), str(seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(message)
    process.stdin.close()
    return process


def told(process: subprocess.Popen[bytes]) -> Load:
    assert process.stdout is not None
    output = process.stdout.read()
    if process.wait():
        raise RuntimeError("the client failed, see above")
    load = Load(**json.loads(output))
    load.statuses = {int(status): count for status, count in load.statuses.items()}
    return load


def main() -> None:
    port, how, many, seconds = sys.argv[1:]
    message = sys.stdin.buffer.read()
    if how == "open":
        load = open_loop(int(port), message, float(many), float(seconds))
    else:
        load = closed_loop(int(port), message, int(float(many)), float(seconds))
    json.dump(asdict(load), sys.stdout)


if __name__ == "__main__":
    main()
