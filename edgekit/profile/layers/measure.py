"""Measure the layers of one artifact, in turns with the same artifact as it is served."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
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
from edgekit.runtimes.timer import LayerTimer, Timings, open_timer, warm_up
from edgekit.spec import Array, Feeds

__all__ = ["measure_layers", "middle"]

#: Inferences that count in one turn of each side, and rounds of turns.
_TURN, _ROUNDS = 16, (3, 32)
#: Operators of the larger model that is all but empty.
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
        turns = _in_turns(timer, session, feeds, seconds)
        timings = timer.finish()
    sides = _compared(turns, timings)
    empty = _Empty()
    if artifact.suffix in {".onnx", ".xml"}:  # others load nothing that could be made here
        empty = _empty(runtime.name, options.threads, sides)
    call_ns = empty.around(sides)
    inside_ns = sides.plain_ns - call_ns
    # What its profiling writes of an operator is in part inside the operator's own time.
    times = np.maximum(sides.layers_ns - empty.inside * sides.after_ns, 0.0)
    profiled_ns = float((sides.layers_ns - times).sum()) / max(1, len(times))
    scale = 1.0
    if times.sum() > inside_ns:  # it also pushes the model out of the caches
        scale = inside_ns / float(times.sum())
        times *= scale
    mapped = map_modules(timings.executed, timings.graph, notes)
    return LayerTimes(
        layers=tuple(
            _layer(timings, mapped, position, float(ns)) for position, ns in enumerate(times)
        ),
        inference_ns=sides.whole_ns,
        plain_ns=sides.plain_ns,
        profiler_ns=profiled_ns,
        scale=scale,
        call_ns=call_ns,
        between_ns=max(0.0, inside_ns - float(times.sum())),
        runs=timings.runs,
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


def _in_turns(timer: LayerTimer, session: Session, feeds: Feeds, seconds: float) -> list[Array]:
    """Nanoseconds of the inferences of ``session`` in each of its turns."""
    session.run(feeds)
    start = time.perf_counter()
    session.run(feeds)
    once = time.perf_counter() - start
    least, most = _ROUNDS
    turn = int(np.clip(seconds / (2 * least * max(once, 1e-9)), 1, _TURN))
    turns: list[Array] = []
    deadline = time.monotonic() + seconds
    while len(turns) < least or (len(turns) < most and time.monotonic() < deadline):
        timer.turn(feeds, turn)
        warm_up(lambda: session.run(feeds))
        plain = []
        for _ in range(turn):
            begin = time.perf_counter_ns()
            session.run(feeds)
            plain.append(time.perf_counter_ns() - begin)
        turns.append(np.array(plain, float))
    return turns


@dataclass(frozen=True, slots=True)
class _Sides:
    """What both sides took in the same turns, in nanoseconds.

    Attributes:
        plain_ns: of an inference without profiling.
        whole_ns: of one with it.
        call_ns: see :class:`~edgekit.runtimes.timer.Timings`.
        layers_ns: likewise.
        after_ns: likewise, 0 where the engine does not say.
    """

    plain_ns: float
    whole_ns: float
    call_ns: float
    layers_ns: Array
    after_ns: Array

    @property
    def profiling_ns(self) -> float:
        """What profiling costs."""
        return max(0.0, self.whole_ns - self.plain_ns)


def _compared(turns: Sequence[Array], timings: Timings) -> _Sides:
    """Of the turns where profiling cost a middling share.

    In others a shared machine changed its speed between the two sides.
    """
    plain_ns = np.array([np.median(turn) for turn in turns])
    whole_ns = [np.median(timings.whole_ns[timings.turns == turn]) for turn in range(len(turns))]
    steady = middle(np.array(whole_ns) / plain_ns)
    plain = np.concatenate([turns[turn] for turn in steady])
    samples = np.flatnonzero(np.isin(timings.turns, steady))
    chosen = samples[middle(timings.whole_ns[samples])]
    layers_ns = timings.layers_ns[chosen].mean(0)
    after_ns = np.zeros(1) if timings.after_ns is None else timings.after_ns[chosen].mean(0)
    return _Sides(
        float(plain[middle(plain)].mean()),
        float(timings.whole_ns[chosen].mean()),
        float(timings.calls_ns[chosen].mean()),
        layers_ns,
        after_ns,
    )


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
class _Empty:
    """Inferences whose operators compute next to nothing, in nanoseconds.

    Attributes:
        plain_ns: of one without operators.
        each_ns: what every operator adds to it.
        call_ns: what is around the engine's work in the former while it is profiled.
        beside_ns: what profiling the operators adds to that.
        inside: what profiling adds to the time of an operator, over what is behind the operator.
    """

    plain_ns: float = 0.0
    each_ns: float = 0.0
    call_ns: float = 0.0
    beside_ns: float = 0.0
    inside: float = 0.0

    def around(self, sides: _Sides) -> float:
        """What is around the operators of an inference; they take no less than these here."""
        least = min(sides.call_ns, self.call_ns)
        around = max(least, sides.call_ns - self.beside_ns)
        most = max(0.0, sides.plain_ns - self.each_ns * len(sides.layers_ns))
        return float(np.clip(self.plain_ns + around - self.call_ns, 0.0, most))


def _empty(name: str, threads: int | None, sides: _Sides) -> _Empty:
    """Measured on a few operators, and what profiling adds around them on many.

    It pushes more out of the caches the more it writes: around a thousand operators it adds not ten
    times but fifty times what it adds around a hundred. So there are as many as cost what the
    profiling of ``sides`` costs.
    """
    operators = len(sides.layers_ns)
    one, few = _few(name, threads)
    # OpenVINO's session may have chosen the slower of its two ways to compute so little.
    alone, together = (min(side.plain_ns, side.whole_ns) for side in (one, few))
    each = max(0.0, together - alone) / (_CHAIN - 1)
    beside = (few.call_ns - one.call_ns) * operators / _CHAIN
    inside = 0.0
    if few.after_ns.any():
        inside = max(0.0, float((few.layers_ns.mean() - each) / few.after_ns.mean()))
        if operators > _CHAIN:
            # No fewer than there are: the machine may have been slower when it had the few.
            fewest = round(operators / _CHAIN)
            alike = round(sides.profiling_ns / max(1.0, few.profiling_ns))
            times = min(max(fewest, alike), 2 * fewest)
            beside = _measured(name, threads, _CHAIN * times).call_ns - one.call_ns
    return _Empty(max(0.0, alone - each), each, one.call_ns, max(0.0, beside), inside)


@cache
def _few(name: str, threads: int | None) -> tuple[_Sides, _Sides]:
    """Of one operator, and of a few."""
    return _measured(name, threads, 1), _measured(name, threads, _CHAIN)


def _measured(name: str, threads: int | None, count: int) -> _Sides:
    """A model of ``count`` operators on a tensor of one element."""
    runtime = runtimes.require(name)
    options = SessionOptions(threads=threads, optimize=False)
    feeds = {"x": np.ones(1, np.float32)}
    with tempfile.TemporaryDirectory(prefix="edgekit-empty-") as folder:
        path = _chain(Path(folder) / "empty.onnx", count)
        with runtime.load(path, options) as session, open_timer(runtime, path, options) as timer:
            turns = _in_turns(timer, session, feeds, 0.2)
            return _compared(turns, timer.finish())


def _chain(path: Path, count: int) -> Path:
    """An ONNX file of ``count`` negations, each of what the last made."""
    nodes = [
        helper.make_node("Neg", [f"x{i}" if i else "x"], [f"x{i + 1}"], name=f"neg{i}")
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
