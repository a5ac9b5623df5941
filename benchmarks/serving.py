"""edgekit's server beside MLServer, LitServe, plain FastAPI and Triton: same model, same run.

    python benchmarks/serving.py --servers build/contenders/bin/python [--only latency ...]

``--servers`` is the Python of a virtual environment with ``benchmarks/servers/requirements.txt``;
``make bench-serving`` sets one up. Every server runs ONNX Runtime with one thread on the very ONNX
file of edgekit's bundle, in processes of its own on the loopback interface, and is asked over
connections that stay open by the same raw-socket client. They are asked in turns; one that is not
asked is halted, so that it costs the others nothing.

- latency: one request at a time with 12 KiB of float32 on one dense layer; what the server adds to
  the engine's own call (p50 minus p50), in the fastest format that the server takes and in JSON.
- throughput: 32 connections kept busy on ``zoo:resnet8-mnist``, without and with dynamic batching;
  and edgekit once more with what it compressed itself.
- batching: the same with edgekit alone, on a model whose engine gains from batches.
- start: from starting the process to its first right answer; memory after a thousand requests.

The rest is about edgekit alone:

- swaps: new versions loaded by the repository API one after the other, under constant load.
- overload: five times the requests that it can answer, at random times.
- soak: half an hour of requests, and what they leave in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving_models import Served, bundled, convolutions, dense, tiny
from serving_servers import Server, edgekit_server, peers
from serving_speed import Rate, added_latency, start_and_memory, throughput
from serving_stress import overload, soak, swaps

from edgekit import zoo
from edgekit.workload import Workload

BATCHED = ("--batch", "32", "--delay", "0.002")


@dataclass(frozen=True)
class Bench:
    """Where to work, and how long."""

    folder: Path
    python: str
    minutes: float
    swaps: int

    def bundled(self, workload: Workload, at: str = "", recipe: str = "fp32") -> Served:
        folder = self.folder / at
        folder.mkdir(exist_ok=True)
        return bundled(workload, folder, recipe)

    def servers(self, model: Served) -> list[Server]:
        return [edgekit_server(model), *peers(self.python, model)]


def latency(bench: Bench) -> list[Any]:
    model = bench.bundled(tiny())
    found = added_latency(bench.servers(model), model)
    print(f"engine alone: {found[0].engine_us:.1f} us")
    for row in found:
        print(
            f"{row.server:20} {row.form:8} p50 {row.p50_us:7.0f} us  added {row.added_us:7.0f} us  "
            f"p99/p50 {row.p99_us / row.p50_us:5.2f}  {row.added_us / found[0].added_us:5.2f}x"
        )
    return found


def rates(bench: Bench) -> list[Any]:
    workload = zoo.load("resnet8-mnist")
    model = bench.bundled(workload)
    small = edgekit_server(bench.bundled(workload, "int8", "int8"), name="edgekit int8")
    batched = peers(bench.python, model, *BATCHED, mode=" batched")
    unbatched = edgekit_server(model, "--max-batch", "1", name="edgekit unbatched")
    others = [each for each in batched if each.name != "fastapi batched"]
    found = throughput([*bench.servers(model), small, unbatched, *others])
    show_rates(found)
    return found


def batching(bench: Bench) -> list[Any]:
    model = bench.bundled(dense())
    unbatched = edgekit_server(model, "--max-batch", "1", name="edgekit unbatched")
    found = throughput([edgekit_server(model), unbatched])
    show_rates(found)
    return found


def show_rates(found: list[Rate]) -> None:
    own = next(row.per_second for row in found if row.server == "edgekit")
    for row in found:
        print(
            f"{row.server:20} {row.per_second:8.0f}/s ({row.low:.0f} to {row.high:.0f})  "
            f"p50 {row.p50_ms:6.2f} ms  p99 {row.p99_ms:6.2f} ms  failed {row.failed}  "
            f"edgekit is {own / row.per_second:.2f}x"
        )


def start(bench: Bench) -> list[Any]:
    found = start_and_memory(bench.servers(bench.bundled(tiny())))
    for row in found:
        print(
            f"{row.server:20} ready after {row.ready_s:5.2f} s  resident {row.rss_mb:6.1f} MB  "
            f"shared pages once {row.pss_mb:6.1f} MB"
        )
    return found


def long(bench: Bench) -> list[Any]:
    found = soak(bench.bundled(tiny()), bench.minutes)
    print(
        f"{found.minutes:g} minutes, {found.requests} requests, {found.failed} failed: "
        f"{found.growth:+.2%} of memory (MB, median of each tenth: "
        f"{', '.join(f'{x:.1f}' for x in found.tenths)})"
    )
    return [found]


def hot_swaps(bench: Bench) -> list[Any]:
    models = bench.bundled(tiny(0), at="even"), bench.bundled(tiny(1), at="odd")
    found = swaps(models, bench.folder, bench.swaps)
    print(
        f"{found.swaps} swaps in {found.seconds:.0f} s under {found.requests} requests: "
        f"{found.failed} failed, {found.mixed} mixed, {found.versions_seen} versions answered"
    )
    return [found]


def overloaded(bench: Bench) -> list[Any]:
    found = overload(bench.bundled(convolutions()), bench.folder)
    print(
        f"peak {found.peak_per_second:.0f}/s, offered {found.offered_per_second:.0f}/s: "
        f"{found.goodput_per_second:.0f}/s answered ({found.goodput:.0%} of the peak), p99 "
        f"{found.p99_ms:.0f} ms (a full queue is {found.bound_ms:.0f} ms), statuses "
        f"{found.statuses}, {found.unsent} not sent for want of connections"
    )
    return [found]


MEASURES: dict[str, Callable[[Bench], list[Any]]] = {
    "latency": latency,
    "throughput": rates,
    "batching": batching,
    "start": start,
    "swaps": hot_swaps,
    "overload": overloaded,
    "soak": long,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", required=True, help="Python of the peers' environment")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--minutes", type=float, default=30, help="how long the soak takes")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.servers, given.minutes, given.swaps)
        for name in given.only:
            print(f"# {name}", flush=True)
            found[name] = [asdict(row) for row in MEASURES[name](bench)]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
