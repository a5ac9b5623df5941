"""Measure the layers of one artifact, in turns with the same artifact as it is served."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit import runtimes
from edgekit.profile.layers.mapping import Mapped, map_modules
from edgekit.profile.layers.work import MOVES, flops
from edgekit.profile.records import LayerTime, LayerTimes
from edgekit.runtimes import Runtime, Session, SessionOptions
from edgekit.runtimes.timer import LayerTimer, Timings, open_timer
from edgekit.spec import Array, Feeds

__all__ = ["measure_layers", "middle"]

#: Inferences that count in one turn of each side, and rounds of turns.
_TURN, _ROUNDS = 8, (3, 16)
#: Operators of the model that the overhead is measured with.
_CHAIN = 64


def measure_layers(
    runtime: Runtime,
    artifact: Path,
    options: SessionOptions,
    session: Session,
    feeds: Feeds,
    notes: Mapping[str, str],
    *,
    seconds: float = 2.0,
) -> LayerTimes:
    """Where the time of an inference goes.

    Args:
        runtime: of the artifact.
        artifact: the file to load.
        options: how it is loaded; ``session`` was likewise.
        session: the artifact as it is served: what the whole of it takes without profiling.
        feeds: of every inference.
        notes: the PyTorch module that tensors come from, for artifacts that do not say so.
        seconds: no new round of turns after this time.

    Raises:
        RuntimeUnavailableError: the runtime does not tell how long operators take.
    """
    with open_timer(runtime, artifact, options) as timer:
        plain = _in_turns(timer, session, feeds, seconds)
        timings = timer.finish()
    chosen = middle(timings.whole_ns)
    inference_ns = float(timings.whole_ns[chosen].mean())
    plain_ns = float(plain[middle(plain)].mean())
    profiler_ns, call_ns = 0.0, 0.0
    if artifact.suffix in {".onnx", ".xml"}:  # others load nothing that could be made here
        overhead = _overhead(runtime.name, options.threads)
        call_ns = overhead.call_ns
        profiler_ns = overhead.inside(inference_ns - plain_ns, len(timings.executed))
    mapped = map_modules(timings.executed, timings.graph, notes)
    times = np.maximum(timings.layers_ns[chosen].mean(0) - profiler_ns, 0)
    return LayerTimes(
        layers=tuple(
            _layer(timings, mapped, position, float(ns)) for position, ns in enumerate(times)
        ),
        inference_ns=inference_ns,
        plain_ns=plain_ns,
        profiler_ns=profiler_ns,
        call_ns=call_ns,
        runs=len(timings.whole_ns),
    )


def middle(values: Array) -> Array:
    """Positions of the middle third of ``values``, by size.

    The mean of these is as robust as the median, and means add up: the layers of these inferences
    to the inferences themselves. Medians of layers do not on a busy machine, where each inference
    is stalled in one layer or another, and no layer in most inferences.
    """
    order = np.argsort(values, kind="stable")
    third = len(values) // 3
    return order[third : len(values) - third]


def _in_turns(timer: LayerTimer, session: Session, feeds: Feeds, seconds: float) -> Array:
    """Nanoseconds of each inference of ``session``."""
    session.run(feeds)
    start = time.perf_counter()
    session.run(feeds)
    once = time.perf_counter() - start
    least, most = _ROUNDS
    turn = int(np.clip(seconds / (2 * least * max(once, 1e-9)), 1, _TURN))
    plain: list[int] = []
    deadline = time.monotonic() + seconds
    for number in range(most):
        if number >= least and time.monotonic() > deadline:
            break
        timer.turn(feeds, turn)
        session.run(feeds)
        for _ in range(turn):
            begin = time.perf_counter_ns()
            session.run(feeds)
            plain.append(time.perf_counter_ns() - begin)
    return np.array(plain, float)


def _layer(timings: Timings, mapped: Mapped, position: int, ns: float) -> LayerTime:
    executed = timings.executed[position]
    operators = mapped.operators(position)
    counts = [flops(operator, timings.graph.tensors) for operator in operators]
    known = [count for count in counts if count is not None]
    moves = executed.inserted or executed.op in MOVES
    complete = len(known) == len(counts) and (counts or moves)
    return LayerTime(
        node=executed.node,
        op=executed.op,
        precision=executed.precision,
        kernel=executed.kernel,
        onnx=tuple(operator.name or operator.outputs[0] for operator in operators),
        modules=mapped.modules(position),
        inserted=executed.inserted,
        ns=ns,
        flops=sum(known) if complete else None,
        bytes=executed.bytes,
    )


@dataclass(frozen=True, slots=True)
class _Overhead:
    """What measuring costs, in nanoseconds.

    Attributes:
        call_ns: of a call that computes nothing.
        operator_ns: what profiling adds to the time that it says of an operator.
        share: that, of all that it adds to an inference for an operator.
        once_ns: what it adds to an inference without operators.
    """

    call_ns: float
    operator_ns: float
    share: float
    once_ns: float

    def inside(self, added_ns: float, operators: int) -> float:
        """What profiling added to each operator's time, where it added so much to the inference.

        It takes longer where operators have more tensors, and where they push it out of the caches.
        Of long inferences the difference tells little, so it may double what it is here at most.
        """
        found = (added_ns - self.once_ns) / operators * self.share
        return float(np.clip(found, self.operator_ns, 2 * self.operator_ns))


@cache
def _overhead(name: str, threads: int | None) -> _Overhead:
    """Measured on operators on three tensors of one element.

    Where the engine makes one kernel of them all, profiling is taken to add nothing.
    """
    runtime = runtimes.require(name)
    options = SessionOptions(threads=threads, optimize=False)
    feeds = {"x": np.ones(1, np.float32)}
    found = []
    with tempfile.TemporaryDirectory(prefix="edgekit-overhead-") as folder:
        for count in (1, _CHAIN):
            path = _chain(Path(folder) / f"{count}.onnx", count)
            with (
                runtime.load(path, options) as session,
                open_timer(runtime, path, options) as timer,
            ):
                alone = _in_turns(timer, session, feeds, 0.2)
                timings = timer.finish()
                apart = timings.layers_ns.shape[1] == count
                measured = (alone, timings.whole_ns, timings.layers_ns.mean(1))
                found.append([float(values[middle(values)].mean()) for values in measured])
    (call, first, _), (plain, profiled, operator) = found
    one = max(0.0, plain - call) / (_CHAIN - 1)
    added = (profiled - first) / (_CHAIN - 1) - one
    if not apart or added <= 0:
        return _Overhead(call - one, 0.0, 0.0, 0.0)
    inside = max(0.0, operator - one)
    return _Overhead(call - one, inside, min(1.0, inside / added), first - call - added)


def _chain(path: Path, count: int) -> Path:
    """An ONNX file of ``count`` additions, each of what the last made."""
    nodes = [
        helper.make_node("Sum", [f"x{i}" if i else "x"] * 3, [f"x{i + 1}"], name=f"sum{i}")
        for i in range(count)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, [1])],
        [value(f"x{count}", TensorProto.FLOAT, [1])],
    )
    imports = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path
