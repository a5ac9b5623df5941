"""What the profiler says of differences that are known, and what it costs itself.

    python benchmarks/profiler_truth.py             # A/A and a planted slow-down, real inferences
    python benchmarks/profiler_truth.py --overhead  # of the timing loop, a call

An artifact is compared with itself, loaded twice: "no difference" is right. Then with itself made
5 % slower, by a session that waits for a twentieth of each call's own time: "slower" is right. Both
happen in every run, in one interleaved round, on ``zoo:resnet8-mnist`` and ONNX Runtime. Two loads
of one artifact may differ really, as their weights lie elsewhere in memory: each run loads anew,
and the spread of the A/A ratio over the runs, against the width of its interval, tells how much of
it there is. The margin of :data:`edgekit.profile.stats.MARGIN` must be wider than that.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from edgekit.runtimes import Session, SessionOptions

from edgekit import runtimes
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.stability import assess
from edgekit.profile.stats import Comparison, compare
from edgekit.profile.warmup import Clock
from edgekit.spec import Feeds, Outputs, TensorSpec

PLANTED = 0.05


class Slowed(Session):
    """Another session, and a wait of a fixed share of what each call took."""

    def __init__(self, session: Session, share: float, clock: Clock) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session = session
        self._share = share
        self._clock = clock

    def run(self, feeds: Feeds, out: Outputs | None = None) -> Outputs:
        start = self._clock()
        made = self._session.run(feeds, out)
        took = self._clock() - start
        until = start + took + int(took * self._share)
        while self._clock() < until:
            pass
        return made

    def _run(self, feeds: Feeds) -> Outputs:
        return self.run(feeds)

    def _release(self) -> None:
        self._session.close()


class Null(Session):
    """Does nothing: all that is measured is the measuring."""

    inputs = outputs = (TensorSpec("x", "float32", (1,)),)

    def run(self, feeds: Feeds, out: Outputs | None = None) -> Outputs:
        return out or feeds

    def _run(self, feeds: Feeds) -> Outputs:
        return feeds

    def _release(self) -> None:
        pass


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--overhead", action="store_true")
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("--seconds", type=float, default=3.0, help="of each run at most")
    options.add_argument("--runtime", default="onnxruntime", choices=("onnxruntime", "openvino"))
    options.add_argument("--model", type=Path, help="an ONNX file [default: zoo:resnet8-mnist]")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument(
        "--cpu-time",
        action="store_true",
        help="count only the time that the processor gave to the calling thread: for a machine "
        "that does other work, and engines that compute in it, as ONNX Runtime with one thread",
    )
    chosen = options.parse_args()
    if chosen.overhead:
        overhead()
        return
    with tempfile.TemporaryDirectory() as folder:
        model = chosen.model or exported(Path(folder))
        clock = time.thread_time_ns if chosen.cpu_time else time.perf_counter_ns
        found = [
            one_run(model, chosen.runtime, chosen.threads, chosen.seconds, clock)
            for _ in range(chosen.runs)
        ]
    told(found)


def exported(folder: Path) -> Path:
    import torch
    from edgekit.exporters.torch_onnx import export_onnx
    from torch import nn

    from edgekit import zoo

    workload = zoo.load("resnet8-mnist")
    assert isinstance(workload.model, nn.Module)
    inputs = {name: torch.as_tensor(x) for name, x in workload.example_inputs.items()}
    path = folder / "model.onnx"
    return export_onnx(workload.model, inputs, path, dynamic={}, output_names=["y"], opset=18)


Run = tuple[Comparison, Comparison, bool]


def one_run(model: Path, runtime: str, threads: int, seconds: float, clock: Clock) -> Run:
    """The artifact loaded a second time, and slowed, against the first; whether it was stable."""
    with ExitStack() as stack:
        options = SessionOptions(threads=threads)
        first, second, third = (
            stack.enter_context(runtimes.require(runtime).load(model, options)) for _ in range(3)
        )
        sessions = {"first": first, "second": second, "slowed": Slowed(third, PLANTED, clock)}
        found = profile_interleaved(
            [Timed(name, runtime, session) for name, session in sessions.items()],
            {spec.name: ones(spec) for spec in first.inputs},
            threads=threads,
            min_rounds=50,
            max_rounds=1000,
            max_seconds=seconds,
            clock=clock,
        )
    same, slowed = (compare(found[0], other) for other in found[1:])
    print(f"{same.words('second', 'first')}; {slowed.words('slowed', 'first')}", flush=True)
    return same, slowed, assess(found[0]).stable is True


def told(found: list[Run]) -> None:
    runs = len(found)
    verdicts = Counter(same.verdict for same, *_ in found)
    slower = sum(slowed.verdict == "slower" for _, slowed, _ in found)
    quiet = verdicts["same"] + verdicts["unclear"]
    print(f"A/A: no difference in {quiet} of {runs} runs, {verdicts['same']} of them surely")
    print(f"planted {PLANTED:.0%}: found in {slower} of {runs} runs")
    print(f"stable: {sum(stable for *_, stable in found)} of {runs} runs")
    spread = statistics.pstdev(same.ratio for same, *_ in found)
    half = statistics.median((same.high - same.low) / 2 for same, *_ in found)
    print(f"A/A ratios: standard deviation {spread:.2%}, half an interval {half:.2%}")


def ones(spec: TensorSpec) -> np.ndarray:
    shape = [dim if isinstance(dim, int) else 1 for dim in spec.shape]
    return np.ones(shape, spec.dtype)


def overhead(calls: int = 1000, repeats: int = 200) -> None:
    """Time of the whole loop and of what is inside its two clock readings, a call, in turns."""
    session, feeds = Null(), {"x": np.zeros(1, np.float32)}
    entry = Timed("null", "null", session)
    bare, loop, inside = [], [], []
    for _ in range(repeats):
        run = session.run
        gc.disable()
        start = time.perf_counter_ns()
        for _ in range(calls * 5 // 4):  # one call in five is not counted
            run(feeds)
        bare.append((time.perf_counter_ns() - start) / calls)
        gc.enable()
        (samples,) = profile_interleaved(
            [entry], feeds, threads=1, warmup=0, max_seconds=60,
            min_rounds=calls // 4, max_rounds=calls // 4,
        )  # fmt: skip
        took = samples.starts_ns[-1] + samples.latencies_ns[-1] - samples.starts_ns[0]
        loop.append(took / calls)
        inside.append(statistics.median(samples.latencies_ns))
    added = [(a - b) / 1e3 for a, b in zip(loop, bare, strict=True)]
    own = [(a - b * 4 / 5) / 1e3 for a, b in zip(inside, bare, strict=True)]
    print(f"a bare call takes {statistics.median(bare) * 4 / 5 / 1e3:.2f} us")
    print(f"the profiler adds {statistics.median(added):.2f} us a counted call to the loop,")
    print(f"{statistics.median(own):.2f} us of it to the latency that it tells; at most 2 us")


if __name__ == "__main__":
    main()
