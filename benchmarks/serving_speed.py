"""What a server costs when all is well: added latency, throughput, start and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from serving_client import Connection, Load, run_clients
from serving_models import Served, session
from serving_servers import Running, Server

__all__ = ["Cost", "Latency", "Rate", "added_latency", "start_and_memory", "throughput"]

ROUNDS, CALLS, WARMUP = 40, 50, 200
#: Calls until a server that was halted has made up for its timers.
SETTLE = 30
#: Seconds under load before the load that counts.
WARM_S = 1.0


@dataclass(frozen=True)
class Latency:
    """Microseconds of a request over one connection that stays open."""

    server: str
    form: str
    p50_us: float
    p99_us: float
    engine_us: float

    @property
    def added_us(self) -> float:
        return self.p50_us - self.engine_us


@dataclass(frozen=True)
class Rate:
    """Answers a second with every connection busy."""

    server: str
    connections: int
    per_second: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass(frozen=True)
class Cost:
    """What it takes to have the server: seconds to its first right answer, and memory then."""

    server: str
    ready_s: float
    rss_mb: float
    pss_mb: float


def running(stack: ExitStack, servers: Sequence[Server]) -> list[Running]:
    """Start the servers, and say why a peer does not start.

    Raises:
        RuntimeError: edgekit does not.
    """
    found = []
    for server in servers:
        try:
            found.append(stack.enter_context(Running(server)))
        except RuntimeError as error:
            if server.name.startswith("edgekit"):
                raise
            print(f"  left out: {error}", flush=True)
    return found


@dataclass
class Asked:
    """A server that is asked in one of its formats."""

    server: Running
    form: str
    connection: Connection
    times: list[float] = field(default_factory=list)

    def ask(self, calls: int) -> list[float]:
        message = self.server.server.formats[self.form].message
        return timed(lambda: self.connection.ask(message), calls)

    def check(self) -> None:
        form = self.server.server.formats[self.form]
        reply = self.connection.ask(form.message)
        if not self.server.server.right(form, reply):
            raise RuntimeError(f"{self.server.server.name}, {self.form}: a wrong answer: {reply}")


def added_latency(servers: Sequence[Server], model: Served) -> list[Latency]:
    """Every server and format in turns with the engine itself; who is not asked is halted."""
    engine, feeds = session(model.onnx), {model.input: model.x}
    direct: list[float] = []
    with ExitStack() as stack:
        asked = [
            Asked(server, form, Connection(server.port))
            for server in running(stack, servers)
            for form in server.server.formats
        ]
        for turn in range(ROUNDS + 1):
            direct += timed(lambda: engine.run(None, feeds), CALLS)
            for each in asked:
                each.server.go()
                each.check()
                each.ask(SETTLE if turn else WARMUP)
                each.times += each.ask(CALLS) if turn else []
                each.server.stop()
    engine_us, _ = microseconds(direct)
    return [
        Latency(each.server.server.name, each.form, *microseconds(each.times), engine_us)
        for each in asked
    ]


def timed(call: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each call."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def microseconds(times: list[float]) -> tuple[float, float]:
    p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e6
    return float(p50), float(p99)


def throughput(
    servers: Sequence[Server], connections: int = 32, rounds: int = 5, seconds: float = 3
) -> list[Rate]:
    """Closed loops in a process of their own, in turns, every server freshly started for each."""
    loads: dict[str, list[Load]] = {}
    for _ in range(rounds):
        for server in servers:
            with ExitStack() as stack:
                for own in running(stack, [server]):
                    ask = (own.port, server.best.message, "closed", connections)
                    run_clients(*ask, WARM_S)
                    loads.setdefault(server.name, []).append(run_clients(*ask, seconds))
    rates = []
    for name, own in loads.items():
        speeds = sorted(load.per_second for load in own)
        failed = sum(load.bad for load in own)
        p50, p99 = np.quantile([x for load in own for x in load.latencies], (0.5, 0.99)) * 1e3
        spread = (median(speeds), speeds[0], speeds[-1])
        rates.append(Rate(name, connections, *spread, float(p50), float(p99), failed))
    return rates


def start_and_memory(servers: Sequence[Server], starts: int = 5) -> list[Cost]:
    """Starts in turns, one server at a time; memory after a thousand requests."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(starts):
        for server in servers:
            with ExitStack() as stack:
                for own in running(stack, [server]):
                    connection = Connection(own.port)
                    timed(lambda c=connection, m=server.best.message: c.ask(m), 1000)
                    found.setdefault(server.name, []).append((own.ready_s, *own.memory_mb()))
    return [
        Cost(name, *(median(each) for each in zip(*runs, strict=True)))
        for name, runs in found.items()
    ]
