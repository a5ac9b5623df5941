"""Whether edgekit's latencies agree with those of the engines' own tools.

    python benchmarks/profilers.py [--repeats 15] [--seconds 2] [--threads 2]

The same model files (``zoo:resnet8-mnist`` and ``zoo:efficientnet-lite0``, fp32 and int8, batch 1)
are timed by edgekit's loop and by a peer, each in a process of its own, in turns whose order
alternates. Printed is the ratio of the medians, edgekit's over the peer's: the median of all pairs
of turns, with quartiles.

Peers: OpenVINO's ``benchmark_app``, which comes with its wheel. It reports what OpenVINO's request
says of itself: without Python's binding, setting inputs and copying outputs. So it is compared with
the same figure of the inferences in edgekit's loop, and then with what ``edgekit profile``
measures, which holds the rest (``+ call``): tens of microseconds, a large part of a small model.

And ONNX Runtime, whose ``onnxruntime_perf_test`` is not on PyPI, in three forms: a loop around
``InferenceSession.run``; the same with defaults, where its threads spin on between inferences and
so take the cores from all other work (edgekit's sessions do not let them: the ratio is what that
costs an inference); and the ``model_run`` events of its own profile, of the very inferences that
edgekit times (there a ratio above 1 is what Python adds around the engine).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino as ov

from edgekit import zoo
from edgekit.compress.recipe import load_recipe
from edgekit.external_data import SHARED_WEIGHTS
from edgekit.pipeline import Timing, make_bundle
from edgekit.spec import Array
from edgekit.targets import parse_targets

MODELS = ("resnet8-mnist", "efficientnet-lite0")

OURS = """
import sys
from pathlib import Path
from statistics import median
import numpy as np
from edgekit import runtimes
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.runtimes import SessionOptions
name, path, bare, seconds, threads, shape = sys.argv[1:]
threads = int(threads)
session = runtimes.require(name).load(Path(path), SessionOptions(threads=threads))
x = np.random.default_rng(0).standard_normal(eval(shape)).astype(np.float32)
feeds = {session.inputs[0].name: x}
if bare == "bare":
    session.run(feeds)
    form = session.form(feeds)
    request = form.take()  # its inputs are set
    own = []
    session._run = lambda feeds: (form.compute(request), own.append(request.own.latency))
(samples,) = profile_interleaved(
    [Timed("a", name, session)], feeds, threads=threads,
    min_rounds=3, max_rounds=10**9, max_seconds=float(seconds),
)
print(median(own) if bare == "bare" else median(samples.latencies_ns) / 1e6)
"""

PLAIN = """
import sys, time
from statistics import median
import numpy as np
import onnxruntime as ort
path, spins, seconds, threads, shape = sys.argv[1:]
settings = ort.SessionOptions()
settings.intra_op_num_threads = int(threads)
if spins == "no":
    settings.add_session_config_entry("session.force_spinning_stop", "1")
session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).standard_normal(eval(shape)).astype(np.float32)
feeds = {session.get_inputs()[0].name: x}
for _ in range(10):
    session.run(None, feeds)
found, end = [], time.monotonic() + float(seconds)
while time.monotonic() < end:
    start = time.perf_counter_ns()
    session.run(None, feeds)
    found.append(time.perf_counter_ns() - start)
print(median(found) / 1e6)
"""

PROFILE = """
import json, sys, tempfile, time
from pathlib import Path
from statistics import median
import numpy as np
from edgekit import runtimes
from edgekit.runtimes import SessionOptions
path, seconds, threads, shape = sys.argv[1:]
x = np.random.default_rng(0).standard_normal(eval(shape)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    options = SessionOptions(threads=int(threads), trace=Path(folder))
    session = runtimes.require("onnxruntime").load(Path(path), options)
    feeds = {session.inputs[0].name: x}
    ours, end = [], time.monotonic() + float(seconds)
    while time.monotonic() < end and len(ours) < 2000:
        start = time.perf_counter_ns()
        session.run(feeds)
        ours.append(time.perf_counter_ns() - start)
    events = json.loads(session.end_trace().read_bytes())
theirs = [event["dur"] for event in events if event["name"] == "model_run"]
print(json.dumps([median(ours) / 1e6, median(theirs[: len(ours)]) / 1e3]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=MODELS, action="append", help="Only this one.")
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), help="Only this one.")
    parser.add_argument("--bundles", type=Path, help="A folder of NAME.edge built before.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.model or MODELS:
            for runtime, precision, path, shape in files(name, Path(scratch), chosen.bundles):
                if chosen.runtime not in {None, runtime}:
                    continue
                case = Case(runtime, path, shape, chosen.seconds, chosen.threads)
                for peer, pairs in case.peers(chosen.repeats).items():
                    told(f"{name} {runtime} {precision}", peer, pairs)


def files(
    name: str, scratch: Path, bundles: Path | None
) -> list[tuple[str, str, Path, tuple[int, ...]]]:
    """Runtime, precision, file and input shape: with batch 1 for good, and weights of its own."""
    folder = bundles / f"{name}.edge" if bundles is not None else scratch / f"{name}.edge"
    if not folder.is_dir():
        make_bundle(
            zoo.load(name),
            folder,
            recipe=load_recipe("int8"),
            targets=parse_targets([], None),
            timing=Timing(rounds=(3, 10), seconds=1),
        )
    core, found = ov.Core(), []
    for precision in ("fp32", "int8"):
        ir = folder / "openvino" / f"{precision}.xml"
        own = ir.with_suffix(".bin")
        model = core.read_model(ir, own if own.exists() else folder / SHARED_WEIGHTS)
        shape = tuple(
            dim.get_length() if dim.is_static else 1 for dim in model.input().partial_shape
        )
        model.reshape(shape)
        path = scratch / f"{name}-{precision}.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        found.append(("openvino", precision, path, shape))
        source = folder / ("model.onnx" if precision == "fp32" else "onnxruntime-int8.onnx")
        fixed = onnx.load(source)
        for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = size
        onnx.save(fixed, scratch / f"{name}-{precision}.onnx")
        found.append(("onnxruntime", precision, scratch / f"{name}-{precision}.onnx", shape))
    return found


class Case:
    """One file on one runtime."""

    def __init__(
        self, runtime: str, path: Path, shape: tuple[int, ...], seconds: float, threads: int
    ) -> None:
        self._runtime, self._path, self._shape = runtime, path, shape
        self._seconds, self._threads = seconds, threads

    def peers(self, repeats: int) -> dict[str, Array]:
        """Medians in milliseconds, ours and the peer's, ``(repeats, 2)``, for each peer."""
        if self._runtime == "openvino":
            return {
                "benchmark_app": self._pairs(self._benchmark_app, repeats, "bare"),
                "benchmark_app, + call": self._pairs(self._benchmark_app, repeats),
            }
        bare = {"run": "no", "run, spinning": "yes"}
        own = [json.loads(self._python(PROFILE, self._path)) for _ in range(repeats)]
        return {
            **{
                peer: self._pairs(
                    lambda spins=spins: float(self._python(PLAIN, self._path, spins)), repeats
                )
                for peer, spins in bare.items()
            },
            "model_run events": np.array(own),
        }

    def _pairs(self, peer: Callable[[], float], repeats: int, kind: str = "whole") -> Array:
        pairs = []
        for number in range(repeats):
            if number % 2:
                theirs, ours = peer(), self._ours(kind)
            else:
                ours, theirs = self._ours(kind), peer()
            pairs.append((ours, theirs))
        return np.array(pairs)

    def _ours(self, kind: str) -> float:
        return float(self._python(OURS, self._runtime, self._path, kind))

    def _python(self, code: str, *arguments: object) -> str:
        settings = [self._seconds, self._threads, self._shape]
        command = [sys.executable, "-c", code, *map(str, (*arguments, *settings))]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _benchmark_app(self) -> float:
        tool = Path(sys.executable).parent / "benchmark_app"
        command = [tool, "-m", self._path, "-hint", "none", "-nstreams", "1", "-api", "sync",
                   "-nthreads", str(self._threads), "-infer_precision", "f32",
                   "-t", str(max(1, round(self._seconds)))]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = re.search(r"Median:\s+([\d.]+) (us|ms)", done.stdout)
        if found is None:
            raise RuntimeError(f"benchmark_app says no median: {done.stdout[-500:]}")
        return float(found[1]) / (1000 if found[2] == "us" else 1)


def told(case: str, peer: str, pairs: Array) -> None:
    ratios = pairs[:, 0] / pairs[:, 1]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    ours, theirs = np.median(pairs, 0)
    print(
        f"{case:36} {peer:22} edgekit {ours:8.3f} ms  peer {theirs:8.3f} ms  "
        f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {len(pairs)} pairs)",
        flush=True,
    )


if __name__ == "__main__":
    main()
