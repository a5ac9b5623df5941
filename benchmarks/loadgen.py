"""edgekit's scenarios beside MLPerf's own load generator: the same sessions, in turns.

    pip install mlcommons-loadgen
    python benchmarks/loadgen.py [x.edge ...] [--runtime onnxruntime] [--repeats 5] [--seconds 10]

Of each bundle, and of a session that takes a known time:

- single-stream: p90 and its early-stopping bound, and the median, edgekit's by loadgen's.
- server: the highest rate that each finds valid under the same target, edgekit by its scenario as
  it is, loadgen by the same bisection around it. The trials of the two take turns. Promised: within
  5 % of each other. The target is a multiple of the session's own latency. Loadgen's rate is what
  it tells as its result, the completed one: chance puts what it offers some percent beside what
  it was set to. Each repeat has another seed: near the limit, the pattern of a thousand arrivals
  alone moves the highest rate by 5 %, of ten thousand by 1 %.

Without a bundle, only the session of a known time is asked. What counts are ratios of runs that
follow each other; on a machine with other work they are as noisy as it is, and the longer
``--steady-ms`` and the lower ``--percentile``, the less. (A model of 0.17 ms on two cores of a
shared host: with p90 1.011, from 0.84 to 1.04; with p99 anything from 0.64 to 1.40.)
"""

from __future__ import annotations

import argparse
import queue
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlperf_loadgen as lg
from edgekit.runtimes import Session, SessionOptions

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.profile.bundle import bundle_feeds
from edgekit.profile.goals import Goal
from edgekit.profile.scenarios.base import Rules
from edgekit.profile.scenarios.search import highest
from edgekit.profile.scenarios.server import Server
from edgekit.profile.scenarios.single_stream import SingleStream
from edgekit.profile.stats import least_samples, percentile
from edgekit.profile.targets.base import GiveUp, Nanoseconds, Run
from edgekit.profile.targets.session import SessionTarget
from edgekit.spec import Feeds, Outputs

PROMISED = 0.05


class Steady(Session):
    """Takes the same time whatever else the machine does, as far as it wakes in time."""

    def __init__(self, seconds: float) -> None:
        self.inputs, self.outputs = (), ()
        self._seconds = seconds

    def _run(self, feeds: Feeds) -> Outputs:
        del feeds
        ends = time.perf_counter() + self._seconds
        time.sleep(self._seconds - 2e-4)
        while time.perf_counter() < ends:
            time.sleep(0)
        return {}

    def _release(self) -> None:
        pass


@dataclass(frozen=True)
class Subject:
    """What is asked, by both."""

    name: str
    sessions: list[Session]
    feeds: Feeds


@dataclass(frozen=True)
class LoadgenRun:
    """What loadgen's summary says: queries completed a second, latencies in milliseconds."""

    valid: bool
    completed: float
    median: float
    p90: float
    bound: float | None


def loadgen(
    subject: Subject, change: Callable[[lg.TestSettings], None], seconds: float
) -> LoadgenRun:
    """One run of loadgen; with a queue and a thread for each session, where there are several."""
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1e3)
    settings.min_query_count = 1
    change(settings)
    with tempfile.TemporaryDirectory() as folder, _served(subject, settings.scenario) as sut:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.enable_trace = False
        qsl = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        lg.DestroyQSL(qsl)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    return LoadgenRun(
        valid="Result is : VALID" in summary,
        completed=_number(summary, r"Completed samples per second\s*: ([\d.]+)") or 0.0,
        median=_ns(summary, r"50.00 percentile latency \(ns\)\s*: (\d+)") or 0.0,
        p90=_ns(summary, r"90.00 percentile latency \(ns\)\s*: (\d+)") or 0.0,
        bound=_ns(summary, r"Early stopping 90(?:\.0)?th percentile estimate: (\d+)"),
    )


@contextmanager
def _served(subject: Subject, scenario: lg.TestScenario) -> Iterator[object]:
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def work(session: Session) -> None:
        while (number := waiting.get()) is not None:
            session.run(subject.feeds)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(number, 0, 0)])

    def issue(samples: list[lg.QuerySample]) -> None:
        for sample in samples:
            waiting.put(sample.id)

    def answer(samples: list[lg.QuerySample]) -> None:
        for sample in samples:
            subject.sessions[0].run(subject.feeds)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    # To hand a query to another thread and wake that costs more than small models do. Latencies
    # count from the scheduled time, so one session may as well keep loadgen's own thread busy.
    alone = scenario == lg.TestScenario.SingleStream or len(subject.sessions) == 1
    busy = [] if alone else subject.sessions
    threads = [threading.Thread(target=work, args=(session,)) for session in busy]
    for thread in threads:
        thread.start()
    sut = lg.ConstructSUT(answer if alone else issue, lambda: None)
    try:
        yield sut
    finally:
        lg.DestroySUT(sut)
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()


def _ns(summary: str, pattern: str) -> float | None:
    found = _number(summary, pattern)
    return None if found is None else found / 1e6


def _number(summary: str, pattern: str) -> float | None:
    found = re.search(pattern, summary)
    return float(found[1]) if found else None


def single_stream(subject: Subject, seconds: float, repeats: int) -> None:
    def change(settings: lg.TestSettings) -> None:
        settings.scenario = lg.TestScenario.SingleStream
        settings.single_stream_expected_latency_ns = 1_000_000

    ratios: dict[str, list[float]] = {"p50": [], "p90": [], "bound": []}
    with SessionTarget(subject.sessions[:1], lambda _: subject.feeds) as target:
        for _ in range(repeats):
            own = SingleStream(Rules(seconds)).run(target)
            theirs = loadgen(subject, change, seconds)
            ratios["p50"].append(percentile(own.run.latencies, 50) / 1e6 / theirs.median)
            ratios["p90"].append(own.outcome.value / theirs.p90)
            if own.outcome.bound and theirs.bound:
                ratios["bound"].append(own.outcome.bound / theirs.bound)
    for name, values in ratios.items():
        show(f"{subject.name}: single-stream {name}", values)


class Turns:
    """Two searches in threads of their own, of which one at a time tries a rate."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0
        self._left: set[int] = set()

    @contextmanager
    def take(self, who: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._next == who or 1 - who in self._left)
        try:
            yield
        finally:
            with self._changed:
                self._next = 1 - who
                self._changed.notify_all()

    def leave(self, who: int) -> None:
        with self._changed:
            self._left.add(who)
            self._changed.notify_all()


class InTurn(SessionTarget):
    """A target that waits for its turn."""

    turns = Turns()

    def open_loop(self, due: Nanoseconds, give_up: GiveUp | None = None) -> Run:
        with self.turns.take(0):
            return super().open_loop(due, give_up)


def server(subject: Subject, given: argparse.Namespace) -> None:
    with InTurn(subject.sessions, lambda _: subject.feeds) as target:
        _, latency = target.warm_up(0.5)
        goal = Goal(f"p{given.percentile:g}", "<=", round(latency * 1e3 * given.multiple, 3), "ms")
        start = 0.5 * len(subject.sessions) / latency
        print(f"{subject.name}: one inference {latency * 1e3:.3f} ms, target {goal}", flush=True)
        ratios = []
        for seed in range(given.repeats):
            target.turns = Turns()
            with ThreadPoolExecutor(2) as pool:
                own = pool.submit(own_rate, target, Server(goal, Rules(given.seconds), seed=seed))
                theirs = pool.submit(
                    loadgen_rate, subject, goal, start, given.seconds, seed, target.turns
                )
            found = own.result(), theirs.result()
            print(f"  edgekit {found[0]:.1f}/s, loadgen {found[1]:.1f}/s", flush=True)
            ratios.append(found[0] / found[1] if all(found) else float("nan"))
    middle = show(f"{subject.name}: server, highest valid rate", ratios)
    print(f"  within {PROMISED:.0%}: {'yes' if abs(middle - 1) <= PROMISED else 'NO'}", flush=True)


def own_rate(target: InTurn, scenario: Server) -> float:
    """The highest rate that edgekit finds valid; 0 for none."""
    try:
        outcome = scenario.run(target).outcome
    finally:
        target.turns.leave(0)
    return outcome.value if outcome.valid else 0.0


def loadgen_rate(
    subject: Subject, goal: Goal, start: float, seconds: float, seed: int, turns: Turns
) -> float:
    """The highest rate that loadgen finds valid; 0 for none."""
    share = (goal.percentile or 0.0) / 100
    completed: dict[float, float] = {}

    def holds(rate: float) -> bool:
        def change(settings: lg.TestSettings) -> None:
            settings.scenario = lg.TestScenario.Server
            settings.server_target_qps = rate
            settings.server_target_latency_ns = round(goal.value * 1e6)
            settings.server_target_latency_percentile = share
            settings.min_query_count = least_samples(share)
            settings.schedule_rng_seed = seed

        with turns.take(1):
            run = loadgen(subject, change, seconds)
        if run.valid:
            completed[rate] = run.completed
        return run.valid

    try:
        found = highest(holds, start, resolution=0.02, least=start / 100)
        return completed.get(found, 0.0)
    finally:
        turns.leave(1)


def show(what: str, ratios: list[float]) -> float:
    middle = statistics.median(ratios) if ratios else float("nan")
    told = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"{what}, edgekit / loadgen: {middle:.3f} ({told})", flush=True)
    return middle


def subjects(given: argparse.Namespace) -> Iterator[Subject]:
    streams, runtime = given.streams, given.runtime
    steady = [Steady(given.steady_ms / 1e3) for _ in range(streams)]
    yield Subject(f"{given.steady_ms:g} ms", steady, {})
    for path in given.bundles:
        bundle = Bundle.open(path)
        artifact = bundle.selected(runtime)
        options = SessionOptions(threads=1)
        sessions = [
            runtimes.require(runtime).load(bundle.file(artifact), options) for _ in range(streams)
        ]
        yield Subject(
            f"{bundle.manifest.name} {artifact.id}", sessions, bundle_feeds(bundle, 1, {})
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--multiple", type=float, default=5, help="of the latency, for the target")
    parser.add_argument("--percentile", type=float, default=99)
    parser.add_argument("--steady-ms", type=float, default=3)
    given = parser.parse_args()
    for subject in subjects(given):
        single_stream(subject, min(given.seconds, 5), given.repeats)
        server(subject, given)


if __name__ == "__main__":
    main()
