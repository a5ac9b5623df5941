"""What becomes of edgekit's server under pressure: for long, in hot swaps, and overloaded."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import theilslopes
from serving_client import Connection, request, run_clients, started, told
from serving_models import Served
from serving_servers import JSON, Running, edgekit_server

from edgekit.spec import Array

__all__ = ["Overload", "Soak", "Swaps", "overload", "soak", "swaps"]

#: Requests that may wait in the overloaded server.
QUEUE = 64
#: Requests that the server computes together at most, by default.
BATCH = 32
DAY_S = 86400
#: Requests a second of the soak, and seconds of them before it counts; and of the burst before.
SOAK_RATE, SOAK_WARM_S = 500, 60
BURST_RATE, BURST_S = 20_000, 15
#: Looks at its memory.
SOAK_READS = 200


@dataclass(frozen=True)
class Soak:
    """Resident memory (MB), read at even times after the warm-up.

    The server keeps the stages of its last 4,096 requests, and the allocator what a busy moment
    took: the warm-up begins with more requests than can be answered. So both are full, and what
    comes then is growth.
    """

    minutes: float
    requests: int
    failed: int
    memory_mb: tuple[float, ...]

    @property
    def tenths(self) -> list[float]:
        """Of each tenth of the time the median: what requests under way take comes and goes."""
        return [median(part) for part in np.array_split(self.memory_mb, 10)]

    @property
    def growth(self) -> float:
        """Over the whole time, by the median of all slopes (Theil and Sen), of the first tenth."""
        slope = theilslopes(self.memory_mb)[0]
        return float(slope * (len(self.memory_mb) - 1) / self.tenths[0])


@dataclass(frozen=True)
class Swaps:
    """Answers while new versions took the place of old ones."""

    swaps: int
    seconds: float
    requests: int
    failed: int
    versions_seen: int
    mixed: int


@dataclass(frozen=True)
class Overload:
    """``ratio`` times what the server can do. Latencies (ms) from when a request was due."""

    peak_per_second: float
    offered_per_second: float
    goodput_per_second: float
    p99_ms: float
    bound_ms: float
    statuses: dict[int, int]
    unsent: int

    @property
    def goodput(self) -> float:
        return self.goodput_per_second / self.peak_per_second


def soak(model: Served, minutes: float) -> Soak:
    """Steady requests for that long, after a warm-up."""
    server = edgekit_server(model)
    memory: list[float] = []
    with Running(server) as own, ThreadPoolExecutor(1) as clients:
        message = server.best.message
        run_clients(own.port, message, "open", BURST_RATE, BURST_S)
        run_clients(own.port, message, "open", SOAK_RATE, SOAK_WARM_S)
        tenth = partial(run_clients, own.port, message, "open", SOAK_RATE, minutes * 6)
        running = [clients.submit(tenth) for _ in range(10)]
        while wait(running, timeout=minutes * 60 / SOAK_READS).not_done:
            memory.append(own.memory_mb()[0])
    loads = [one.result() for one in running]
    good, failed = sum(one.good for one in loads), sum(one.bad for one in loads)
    return Soak(minutes, good, failed, tuple(memory))


def swaps(models: tuple[Served, Served], folder: Path, count: int) -> Swaps:
    """Load one new version after the other by the repository API, under constant load.

    Odd versions are the second model, even ones the first. An answer is mixed when it says another
    version than the one that computes it.
    """
    root = folder / "repository"
    add_version(root, models, 1)
    server = edgekit_server(models[0], path=root)
    message = server.best.message
    with Running(replace(server, y=models[1].y)) as own:
        client = started(own.port, message, "closed", 4, DAY_S)
        control = Connection(own.port)
        begin = time.perf_counter()
        for version in range(2, count + 2):
            add_version(root, models, version)
            load_newest(control, models[0].name)
            shutil.rmtree(root / models[0].name / str(version - 1))
        seconds = time.perf_counter() - begin
        client.terminate()
        load = told(client)
    answers = [parsed(body) for body in load.bodies]
    mixed = sum(not np.allclose(y, models[v % 2].y.ravel(), atol=1e-4) for v, y in answers)
    return Swaps(count, seconds, load.good, load.bad, len({v for v, _ in answers}), mixed)


def add_version(root: Path, models: tuple[Served, Served], version: int) -> None:
    """Put a version into the repository at once: copied beside it, then moved."""
    source = models[version % 2].bundle
    copy = root.with_name("incoming")
    shutil.copytree(source, copy)
    target = root / models[0].name / str(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy.rename(target)


def load_newest(control: Connection, name: str) -> None:
    reply = control.ask(request(f"/v2/repository/models/{name}/load", b"{}", JSON))
    if reply.status != 200:
        raise RuntimeError(f"the load failed: {reply.status} {reply.body.decode()}")


def parsed(body: str) -> tuple[int, Array]:
    """Version and scores of an answer of the tiny model: JSON, then ten numbers of float32."""
    data = body.encode("latin-1")
    head, tail = data[:-40], data[-40:]
    return int(json.loads(head)["model_version"]), np.frombuffer(tail, np.float32)


def overload(model: Served, folder: Path, ratio: float = 5, seconds: float = 15) -> Overload:
    """Requests at ``ratio`` times the peak, at random times, whatever the server answers."""
    config = folder / "overload.yaml"
    config.write_text(f"defaults: {{queue: {QUEUE}}}")
    server = edgekit_server(model, "--config", str(config))
    with Running(server) as own:
        ask = (own.port, server.best.message)
        run_clients(*ask, "closed", 32, 2)
        peak = median(run_clients(*ask, "closed", 32, 5).per_second for _ in range(3))
        load = run_clients(*ask, "open", ratio * peak, seconds)
    answered = sum(load.statuses.values()) + load.unsent
    # Whoever gets in waits for those before: a full queue, and the batch that is being computed.
    bound = (QUEUE + BATCH) / peak * 1e3
    p99 = float(np.quantile(load.latencies, 0.99) * 1e3)
    return Overload(
        peak, answered / seconds, load.per_second, p99, bound, load.statuses, load.unsent
    )
