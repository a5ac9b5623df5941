"""How long each operator takes on ONNX Runtime: what its profiling writes, and the graph it ran."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from edgekit.runtimes.base import SessionOptions
from edgekit.runtimes.onnx_operators import onnx_graph
from edgekit.runtimes.timer import Executed, LayerTimer, Tensor, Timings, warm_up
from google.protobuf.message import DecodeError

from edgekit.errors import OutputError, RuntimeUnavailableError
from edgekit.spec import Feeds

if TYPE_CHECKING:
    from edgekit.runtimes.onnxruntime import OnnxRuntime

__all__ = ["OnnxRuntimeTimer"]

_SUFFIX = "_kernel_time"
#: All operators of one run: the last of these, behind those of subgraphs.
_EXECUTE = "SequentialExecutor::Execute"
#: Operators that ONNX Runtime adds between those of the model.
_ADDED = {"ReorderInput", "ReorderOutput"}
#: What it appends to the name of the tensor or operator that it makes a kernel of.
_ENDINGS = ("_nchwc", "_quant", "_nhwc", "_token")
_PRECISIONS = {"float": "fp32", "float16": "fp16", "double": "fp64", "bfloat16": "bf16"}
_BYTES = ("int8", "uint8")
#: Operators that bring numbers into or out of int8; what they compute is in float.
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxRuntimeTimer(LayerTimer):
    """Runs with ONNX Runtime's profiling on.

    Its times are in whole microseconds, rounded down: half of one is added to each. What it writes
    of an operator takes some microseconds, part of them inside the operator's own time and part
    behind it.
    """

    def __init__(self, runtime: OnnxRuntime, artifact: Path, options: SessionOptions) -> None:
        if artifact.suffix != ".onnx":
            raise RuntimeUnavailableError(
                "ONNX Runtime does not say what it makes of a file of its own format",
                where=str(artifact),
                fix="Look at the layers of the ONNX file that it was made from",
            )
        self._artifact = artifact
        self._folder = Path(tempfile.mkdtemp(prefix="edgekit-trace-"))
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._turns: list[int] = []  # of each inference, -1 where it does not count
        self._whole: list[int] = []
        try:
            self._session = runtime.load(artifact, replace(options, trace=self._folder, cache=None))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def turn(self, feeds: Feeds, count: int) -> None:
        self._shapes = {name: tuple(array.shape) for name, array in feeds.items()}
        number = max(self._turns, default=-1) + 1
        warm = warm_up(lambda: self._session.run(feeds))
        self._turns += [-1] * warm + [number] * count
        self._whole += [0] * warm
        for _ in range(count):
            start = time.perf_counter_ns()
            self._session.run(feeds)
            self._whole.append(time.perf_counter_ns() - start)

    def finish(self) -> Timings:
        from edgekit.runtimes.onnxruntime import OPTIMIZED, OnnxRuntimeSession

        assert isinstance(self._session, OnnxRuntimeSession)
        try:
            model = onnx.load(self._folder / OPTIMIZED, load_external_data=False)
            nodes = {node.name: node for node in model.graph.node if node.name}
            runs, seen = _read(_events(self._session.end_trace().read_text("utf-8")), nodes)
        except (OSError, ValueError, DecodeError) as error:  # it says nothing of a full disk
            raise OutputError(
                f"what ONNX Runtime wrote of its profiling cannot be read: {error}",
                where=str(self._folder),
                fix="See that there is room there",
            ) from error
        keys = list(runs[0])
        absent = (np.nan, np.nan)
        times = np.array([[run.get(key, absent) for key in keys] for run in runs])
        times = times.reshape(len(runs), len(keys), 2)
        turns = np.array(self._turns[: len(runs)])
        kept = (turns >= 0) & ~np.isnan(times).any((1, 2))
        whole = np.array(self._whole[: len(runs)], float)[kept]
        graph = onnx_graph(self._artifact, self._shapes, _seen_tensors(seen, nodes))
        executed = _described([seen[key] for key in keys], nodes, model.graph)
        layers, after = np.moveaxis(times[kept] * 1000, 2, 0)
        calls = whole - layers.sum(1) - after.sum(1)
        return Timings(executed, graph, turns[kept], whole, calls, layers, len(whole), after)

    def close(self) -> None:
        self._session.close()
        shutil.rmtree(self._folder, ignore_errors=True)


_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Event:
    """One execution of an operator, as the profile has it."""

    name: str
    op: str
    provider: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    activations: int
    results: int


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    """One after the other: all at once, those of a second or two would take a gigabyte."""
    decoder = json.JSONDecoder()
    place = text.find("{")
    while place >= 0:
        event, place = decoder.raw_decode(text, place)
        yield event
        place = text.find("{", place)


def _read(
    events: Iterable[Mapping[str, Any]], nodes: Mapping[str, Any]
) -> tuple[list[dict[_Key, tuple[float, float]]], dict[_Key, _Event]]:
    """The operators of the main graph.

    Returns:
        Run by run, the microseconds of each, and those from its end to where the next begins; and
        the first execution of each. What is inside the branches of an If or the body of a Loop is
        in the time of these.
    """
    runs: list[dict[_Key, tuple[float, float]]] = []
    first: dict[_Key, _Event] = {}
    done: list[tuple[_Key, float, float]] = []
    end = 0.0
    for event in events:
        if _timed(event, nodes):
            key = event["name"], event["args"]["node_index"]
            if key not in first:
                first[key] = _event(event)
            done.append((key, event["ts"], event["dur"] + 0.5))
            end = event["ts"] + event["dur"]
        elif event["name"] == _EXECUTE:
            end = event["ts"] + event["dur"]
        elif event["name"] == "model_run":
            run: dict[_Key, tuple[float, float]] = {}
            following = [*(start for _, start, _ in done[1:]), end]
            for (key, start, took), until in zip(done, following, strict=False):
                before, after = run.get(key, (0.0, 0.0))
                run[key] = before + took, after + until - start - took
            runs.append(run)
            done = []
    if not runs:
        raise ValueError("it holds no inference")
    return runs, first


def _event(event: Mapping[str, Any]) -> _Event:
    args = event["args"]
    return _Event(
        name=event["name"].removesuffix(_SUFFIX),
        op=args["op_name"],
        provider=args.get("provider", ""),
        inputs=_tensors(args.get("input_type_shape", [])),
        outputs=_tensors(args.get("output_type_shape", [])),
        activations=int(args.get("activation_size", 0)),
        results=int(args.get("output_size", 0)),
    )


def _timed(event: Mapping[str, Any], nodes: Mapping[str, Any]) -> bool:
    name = event["name"]
    if event["cat"] != "Node" or not name.endswith(_SUFFIX):
        return False
    # Without a name the engine calls a node by its type and number.
    return name.removesuffix(_SUFFIX) in nodes or name.startswith(event["args"]["op_name"] + "_")


def _tensors(listed: Sequence[Mapping[str, list[int]]]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(_DTYPES.get(dtype, dtype), tuple(shape))
        for one in listed
        for dtype, shape in one.items()
    )


def _described(
    events: Sequence[_Event], nodes: Mapping[str, onnx.NodeProto], graph: onnx.GraphProto
) -> tuple[Executed, ...]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers: dict[str, int] = {}
    executed = []
    for position, event in enumerate(events):
        node = nodes.get(event.name)
        inputs = list(node.input) if node is not None else []
        outputs = [name for name in node.output if name] if node is not None else []
        weights = [stored[name] for name in inputs if name in stored]
        inserted = event.op in _ADDED
        executed.append(
            Executed(
                node=event.name,
                op=event.op,
                precision=_precision(event, node, weights),
                kernel=event.provider.removesuffix("ExecutionProvider"),
                computes=() if inserted else tuple(_names([event.name, *outputs])),
                reads=tuple(dict.fromkeys(makers[name] for name in inputs if name in makers)),
                bytes=_moved(event, sum(map(_size, weights))),
                inserted=inserted,
            )
        )
        makers |= dict.fromkeys(outputs, position)
    return tuple(executed)


def _names(own: Sequence[str]) -> Iterator[str]:
    """Each with and without what the optimizer appends."""
    for name in own:
        yield name
        for ending in _ENDINGS:
            if ending in name:
                yield name.partition(ending)[0]


def _precision(
    event: _Event, node: onnx.NodeProto | None, weights: Sequence[onnx.TensorProto]
) -> str:
    if node is not None and event.op == "MatMulNBits":
        # https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
        levels = {a.name: a.i for a in node.attribute}
        return "int8" if levels.get("accuracy_level") == 4 else "fp32"
    kinds = [one.dtype for one in event.inputs]
    kinds += [
        onnx.helper.tensor_dtype_to_np_dtype(one.data_type).name for one in weights if one.dims
    ]
    if event.op not in _CONVERSIONS and any(kind in _BYTES for kind in kinds):
        return "int8"
    names = {**{_DTYPES.get(k, k): v for k, v in _PRECISIONS.items()}}
    first = next((one.dtype for one in event.inputs), "")
    return names.get(first, first)


def _moved(event: _Event, stored: int) -> int:
    """Bytes that it reads and writes; of a table only the rows that are looked up."""
    total = event.activations + event.results + stored
    if not event.op.startswith("Gather"):
        return total
    indices = event.inputs[-1].nbytes if event.inputs else None
    return min(total, 2 * event.results + (indices or 0))


def _size(tensor: onnx.TensorProto) -> int:
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
    return Tensor(kind, tuple(tensor.dims)).nbytes or 0


def _seen_tensors(
    seen: Mapping[_Key, _Event], nodes: Mapping[str, onnx.NodeProto]
) -> dict[str, Tensor]:
    """What the engine said of results, by name."""
    found: dict[str, Tensor] = {}
    for event in seen.values():
        node = nodes.get(event.name)
        names = [name for name in node.output if name] if node is not None else []
        if len(names) == len(event.outputs):
            found |= dict(zip(names, event.outputs, strict=True))
    return found
