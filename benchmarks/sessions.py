"""What a session adds to the engine's own call, and what the cache takes off a second start.

    python benchmarks/sessions.py

The first is measured in turns in one process on a model of one small layer, batch 1, where it
matters most; the second on ``zoo:efficientnet-lite0``, each start in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import onnxruntime as ort
import openvino as ov
import torch
from edgekit.exporters import ExportOptions
from edgekit.exporters.torch_onnx import export_onnx
from edgekit.runtimes import SessionOptions
from torch import nn

from edgekit import exporters, runtimes, zoo
from edgekit.spec import Array

ROUNDS, CALLS, STARTS = 200, 50, 15

START = """
import sys, time
from pathlib import Path
from edgekit import runtimes
from edgekit.runtimes import SessionOptions
runtime = runtimes.require(sys.argv[1])
runtime.load(Path(sys.argv[3]), SessionOptions(threads=2))  # the engine itself is loaded now
cache = Path(sys.argv[4]) if len(sys.argv) > 4 else None
start = time.perf_counter()
runtime.load(Path(sys.argv[2]), SessionOptions(threads=2, cache=cache))
print(time.perf_counter() - start)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny = exported(nn.Linear(8, 8), {"x": torch.zeros(1, 8)}, folder / "tiny.onnx")
        overhead("onnxruntime", tiny, plain_onnxruntime(tiny))
        overhead("openvino", tiny, plain_openvino(tiny))
        several = exported(nn.Linear(8, 8), {"x": torch.zeros(2, 8)}, folder / "any.onnx", "rows")
        print("with any number of rows:")
        overhead("onnxruntime", several, plain_onnxruntime(several))
        overhead("openvino", several, plain_openvino(several))
        workload = zoo.load("efficientnet-lite0")
        assert isinstance(workload.model, nn.Module)
        inputs = {name: torch.as_tensor(x) for name, x in workload.example_inputs.items()}
        large = exported(workload.model, inputs, folder / "large.onnx")
        form = exporters.get("openvino").export(large, folder / "large", ExportOptions(None, {}))
        for runtime, path in (("onnxruntime", large), ("openvino", form[0])):
            starts(runtime, path, tiny, folder / runtime)


def exported(
    model: nn.Module, inputs: dict[str, torch.Tensor], path: Path, rows: str | None = None
) -> Path:
    dynamic = {} if rows is None else {"x": {0: rows}}
    return export_onnx(model, inputs, path, dynamic=dynamic, output_names=["y"], opset=18)


def plain_onnxruntime(path: Path) -> Callable[[Array], Any]:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["y"], {"x": x})[0]


def plain_openvino(path: Path) -> Callable[[Array], Any]:
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    request = ov.Core().compile_model(path, "CPU", config).create_infer_request()
    return lambda x: request.infer({0: x}, share_inputs=True)[0]


def overhead(runtime: str, path: Path, plain: Callable[[Array], Any]) -> None:
    x = np.ones((1, 8), np.float32)
    with runtimes.require(runtime).load(path, SessionOptions(threads=1)) as session:
        pairs = [
            (timed(lambda: plain(x)), timed(lambda: session.run({"x": x}))) for _ in range(ROUNDS)
        ]
    added = [own - engine for engine, own in pairs]
    low, _, high = quantiles(added, n=4)
    print(
        f"{runtime}: engine {median(engine for engine, _ in pairs):.1f} us, session adds "
        f"{median(added):.1f} us (quartiles {low:.1f} to {high:.1f})"
    )


def timed(call: Callable[[], Any]) -> float:
    """Microseconds of one call."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def starts(runtime: str, path: Path, tiny: Path, caches: Path) -> None:
    """Load without a cache, with an empty one, and with what that load kept, in turns."""

    def start(*more: str) -> float:
        command = [sys.executable, "-c", START, runtime, str(path), str(tiny), *more]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    turns = []
    for turn in range(STARTS):
        cache = str(caches / str(turn))
        turns.append((start(), start(cache), start(cache)))
    without, first, second = (median(turn[i] for turn in turns) * 1e3 for i in range(3))
    print(f"{runtime}: {without:.0f} ms without a cache, {first:.0f} first, {second:.0f} second")
    for name, place in (("the first", 1), ("one without", 0)):
        ratios = [turn[place] / turn[2] for turn in turns]
        low, _, high = quantiles(ratios, n=4)
        print(f"  {median(ratios):.2f}x as fast as {name} (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
