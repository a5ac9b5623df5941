"""What this machine can do at most: large matrix products and a stream through memory, timed.

Through the engines' own kernels, since no layer will run on better ones. Takes about three seconds
once; the figures are kept for this processor, these engines and this number of threads, unless
other work took part of the machine meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from edgekit import exporters, runtimes
from edgekit.atomic import write_file
from edgekit.cache import cache_folder, writeable
from edgekit.exporters import ExportOptions
from edgekit.exporters.graph import INFERENCE_PRECISION
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.profile.records import Peaks
from edgekit.runtimes import SessionOptions
from edgekit.sensors import CpuClock, process_cpu_s
from edgekit.spec import Array
from edgekit.timestamp import timestamp

__all__ = ["machine_peaks", "measure_peaks"]

_log = logging.getLogger(__name__)

#: Rows and columns of the products. The larger hides what a call takes on fast machines, the
#: smaller is done before a busy machine interrupts it.
_SIDES = (512, 1024)
#: Seconds for each product on each engine, and for the stream.
_PRODUCT_S, _STREAM_S = 0.2, 0.5
#: Share of the processors that others may use for figures to be kept.
_OTHERS = 0.1
_ENGINES = ("onnxruntime", "openvino")
#: Bytes of each array of the stream where the cache's size is not known, and at most.
_STREAM_BYTES, _MOST_BYTES = 2**28, 2**29


def machine_peaks(threads: int) -> Peaks:
    """The peaks of this machine: as kept, else measured now and kept.

    A cache that cannot be written costs the time of measuring again.
    """
    folder = writeable(cache_folder("peaks"))
    path = None if folder is None else folder / f"{_key()}-{threads}.json"
    if path is not None and path.is_file():
        try:
            return Peaks.model_validate_json(path.read_bytes())
        except ValidationError:
            _log.warning("%s is damaged: measured again", path)
    peaks = measure_peaks(threads)
    if path is not None and (peaks.others or 0.0) <= _OTHERS:
        write_file(path, peaks.model_dump_json(indent=1).encode())
    return peaks


def measure_peaks(threads: int) -> Peaks:
    """The best of several timings of each; anything else on the machine can only lower them."""
    flops: dict[str, float] = {}
    clock, own, start = CpuClock(), process_cpu_s(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgekit-peaks-") as folder:
        for precision in _precisions():
            found = [
                speed
                for side in _SIDES
                for name in _ENGINES
                for speed in _speeds(name, precision, side, Path(folder), threads)
            ]
            if found:
                flops[precision] = max(found)
    bandwidth = _bandwidth(threads)
    busy = clock.utilization()
    used = (process_cpu_s() - own) / ((time.monotonic() - start) * (os.cpu_count() or 1))
    return Peaks(
        threads=threads,
        measured=timestamp(),
        flops=flops,
        bytes_per_s=bandwidth,
        others=None if busy is None else max(0.0, busy - used),
    )


def _key() -> str:
    machine = this_machine()
    versions = [runtimes.get(name).status().version for name in _ENGINES]
    told = repr((machine.cpu, machine.features, machine.cores, machine.memory_bytes, versions))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _precisions() -> list[str]:
    here = probe(this_machine().features)
    return ["fp32", "int8", *(["bf16"] if here.bf16 else [])]


def _speeds(name: str, precision: str, side: int, folder: Path, threads: int) -> Iterator[float]:
    """Operations a second on one engine; none where it is not installed, or has no such kernel."""
    runtime = runtimes.get(name)
    if not runtime.status().usable or (name, precision) == ("onnxruntime", "bf16"):
        return  # ONNX Runtime's CPU kernels compute it in fp32
    model = _product(folder / f"{precision}-{side}.onnx", precision, side)
    if name == "openvino":  # which takes the wish for bf16 from its own format only
        model = exporters.get(name).export(model, model.with_suffix(""), ExportOptions(None, {}))[0]
    feeds = {"x": _operand(side)}
    with runtime.load(model, SessionOptions(threads=threads)) as session:
        seconds = _best(lambda: session.run(feeds), _PRODUCT_S)
    yield 2 * side**3 / seconds


def _best(call: Callable[[], object], limit: float) -> float:
    """The least seconds of several calls."""
    call()
    least = float("inf")
    deadline = time.perf_counter() + limit
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least if least < float("inf") else limit


def _operand(side: int) -> Array:
    return np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)


def _product(path: Path, precision: str, side: int) -> Path:
    """An ONNX file of ``x`` times a stored matrix; in int8 with the pairs that engines look for."""
    weight = _operand(side) / np.sqrt(side)
    stored: dict[str, Array] = {"w": weight.astype(np.float32)}
    nodes = []
    left, right = "x", "w"
    if precision == "int8":
        stored = {
            "w": np.clip(np.rint(weight * 1000), -127, 127).astype(np.int8),
            "w_scale": np.full(side, 0.001, np.float32),
            "w_zero": np.zeros(side, np.int8),
            "x_scale": np.array(0.04, np.float32),
            "x_zero": np.array(128, np.uint8),
        }
        left, right = "x_real", "w_real"
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_int"], "quantize"),
            helper.make_node("DequantizeLinear", ["x_int", "x_scale", "x_zero"], [left], "real"),
            helper.make_node(
                "DequantizeLinear", ["w", "w_scale", "w_zero"], [right], "weight", axis=1
            ),
        ]
    nodes.append(helper.make_node("MatMul", [left, right], ["y"], "product"))
    value, shape = helper.make_tensor_value_info, [side, side]
    graph = helper.make_graph(
        nodes,
        "product",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if precision == "bf16":
        helper.set_model_props(model, {INFERENCE_PRECISION: "bf16"})
    onnx.save(model, path)
    return path


def _bandwidth(threads: int) -> float:
    """Bytes a second of ``a = b + c``, as STREAM counts them: what is read and what is written.

    Not what a processor reads of ``a`` before it writes it. McCalpin's rule: arrays of four times
    the caches. https://www.cs.virginia.edu/stream/ref.html
    """
    count = _stream_bytes() // 8
    a, b, c = np.zeros(count), np.ones(count), np.ones(count)
    cuts = np.linspace(0, count, threads + 1).astype(int)
    parts = [slice(start, stop) for start, stop in pairwise(cuts)]

    def add(part: slice) -> None:
        np.add(b[part], c[part], out=a[part])  # numpy lets other threads run meanwhile

    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(add, parts)), _STREAM_S)
    return 3 * 8 * count / seconds


def _stream_bytes() -> int:
    """Of each of three arrays: beyond all caches, and within a quarter of memory together."""
    sizes = [_cache_bytes(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("*")]
    wanted = 4 * max(sizes, default=0) or _STREAM_BYTES
    return min(wanted, _MOST_BYTES, this_machine().memory_bytes // 12)


def _cache_bytes(folder: Path) -> int:
    try:
        found = re.match(r"(\d+)([KMG]?)", (folder / "size").read_text(encoding="ascii"))
    except OSError:
        return 0
    return 0 if found is None else int(found[1]) * 1024 ** " KMG".index(found[2] or " ")
