"""How long each operator takes on OpenVINO: its performance counters and its execution graph."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit.runtimes.base import SessionOptions
from edgekit.runtimes.openvino_forms import MODULES_INFO
from edgekit.runtimes.openvino_tensors import dtype_of
from edgekit.runtimes.timer import Executed, Graph, LayerTimer, Operator, Tensor, Timings, warm_up

from edgekit.errors import RuntimeUnavailableError
from edgekit.spec import Array, Feeds

if TYPE_CHECKING:
    import openvino as ov
    from edgekit.runtimes.openvino import OpenVino, OpenVinoSession

__all__ = ["OpenVinoTimer"]

_MICROSECOND = timedelta(microseconds=1)
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "f64": "fp64", "i8": "int8", "u8": "int8"}
_BYTES = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2,
          "i16": 2, "u16": 2, "i8": 1, "u8": 1, "boolean": 1, "i4": 0.5, "u4": 0.5}  # fmt: skip
#: Nodes of the execution graph that compute nothing.
_NOTHING = {"Input", "Const", "Output"}


class OpenVinoTimer(LayerTimer):
    """Runs with ``PERF_COUNT`` on.

    The CPU plugin cuts each execution of an operator down to whole microseconds, adds these up from
    when the model was compiled, and tells their mean, cut down likewise
    (``src/plugins/intel_cpu/src/perf_count.h`` of OpenVINO). One stall of a busy machine stays in
    such a mean for good. So every turn takes a newly imported form: what the sum grew by from the
    end of its first inferences to that of its last is the time of those that count. To read the
    means in between would push the model out of the caches. Other plugins tell the last inference.
    """

    def __init__(self, runtime: OpenVino, artifact: Path, options: SessionOptions) -> None:
        device = options.device or "CPU"
        if device.partition(".")[0] not in {"CPU", "GPU", "NPU"}:
            raise RuntimeUnavailableError(
                "hands the work on, so its counters cannot be told apart",
                where=f"device {device}",
                fix="Name the device that does it",
            )
        self._grows = device == "CPU"
        options = replace(options, trace=artifact.parent, cache=None)  # nothing is written there
        self._forms = runtime.forms(artifact, options)
        self._cores = options.cores
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._runs = 0
        self._whole: list[Array] = []
        self._layers: list[Array] = []
        self._last: ov.CompiledModel | None = None
        self._nodes: list[str] = []
        self._ran: set[str] = set()

    def turn(self, feeds: Feeds, count: int) -> None:
        from edgekit.runtimes.openvino import OpenVinoSession

        self._shapes = {name: tuple(array.shape) for name, array in feeds.items()}
        with OpenVinoSession(self._forms, self._cores) as session:
            warm = warm_up(lambda: session.run(feeds))
            before = self._means(session, feeds)
            times = []
            for _ in range(count):
                start = time.perf_counter_ns()
                session.run(feeds)
                whole = time.perf_counter_ns() - start
                times.append((whole, whole - self._request(session, feeds).latency * 1e6))
            after = self._means(session, feeds)
            self._last = session.form(feeds).compiled
        self._runs += count
        self._whole.append(np.mean(times, 0) if self._grows else np.array(times[-1]))
        self._layers.append(grown(before, after, warm, count) if self._grows else after)

    def _means(self, session: OpenVinoSession, feeds: Feeds) -> Array:
        """Microseconds of each operator, as the device tells them."""
        found = self._request(session, feeds).profiling_info
        self._nodes = [one.node_name for one in found]
        # A node that had nothing to do this time is not executed, and keeps its time.
        self._ran |= {one.node_name for one in found if one.status == one.status.EXECUTED}
        return np.array([one.real_time / _MICROSECOND for one in found])

    @staticmethod
    def _request(session: OpenVinoSession, feeds: Feeds) -> ov.InferRequest:
        """What ran last: one thread uses one request."""
        form = session.form(feeds)
        request = form.take()
        form.give_back(request)
        return request.own

    def finish(self) -> Timings:
        assert self._last is not None
        described, names = _described(self._last.get_runtime_model())
        places = {name: index for index, name in enumerate(self._nodes)}
        chosen = [index for index, name in enumerate(names) if name in places and name in self._ran]
        columns = [places[names[index]] for index in chosen]
        layers = np.array(self._layers)[:, columns]
        executed = _renumbered(described, chosen)
        whole, calls = np.array(self._whole).T
        turns = np.arange(len(whole))
        return Timings(executed, self._graph(), turns, whole, calls, layers * 1000, self._runs)

    def _graph(self) -> Graph:
        model = self._forms.model.clone()
        try:
            model.reshape({name: list(shape) for name, shape in self._shapes.items()})
        except RuntimeError:  # it runs at these shapes, but does not say what becomes of them
            return _graph(self._forms.model)
        return _graph(model)

    def close(self) -> None:
        self._last = None
        self._layers.clear()


def grown(before: Array, after: Array, warm: int, count: int) -> Array:
    """Microseconds of one of ``count`` executions, of means over those before and over all.

    Half of one was cut off each execution in the mean, and likewise each mean. Where even the mean
    of all is 0, only the first holds: hardly any took a whole one.
    """
    sums = (after * (warm + count) - before * warm) / count
    return np.where(after > 0, sums + 1.0, 0.5)


def _described(model: ov.Model) -> tuple[list[Executed], list[str]]:
    """The nodes of an execution graph that compute, with positions among these, and their names."""
    executed: list[Executed] = []
    names: list[str] = []
    places: dict[str, int] = {}
    for node in model.get_ordered_ops():
        info = node.get_rt_info()
        kind = _text(info, "layerType")
        if kind in _NOTHING:
            continue
        name = node.get_friendly_name()
        sources = [port.get_node() for port in node.input_values()]
        read = [source.get_friendly_name() for source in sources]
        precision = _text(info, "runtimePrecision")
        executed.append(
            Executed(
                node=name,
                op=kind,
                precision=_PRECISIONS.get(precision, precision),
                kernel=_text(info, "primitiveType"),
                computes=tuple(_names(_text(info, "originalLayersNames").split(","))),
                reads=tuple(dict.fromkeys(places[one] for one in read if one in places)),
                bytes=_bytes(_moved(node, kind)),
                inserted=kind == "Reorder",
            )
        )
        places[name] = len(names)
        names.append(name)
    return executed, names


def _renumbered(executed: Sequence[Executed], kept: Sequence[int]) -> tuple[Executed, ...]:
    """Those that were kept, each reading from the kept ones before it, through the others."""
    places = {old: new for new, old in enumerate(kept)}
    sources: list[list[int]] = []
    for one in executed:
        found: dict[int, None] = {}
        for old in one.reads:
            found |= dict.fromkeys([places[old]] if old in places else sources[old])
        sources.append(list(found))
    return tuple(replace(executed[old], reads=tuple(sources[old])) for old in kept)


def _text(info: Mapping[str, Any], key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(value.astype(str) if hasattr(value, "astype") else value)


def _names(listed: Sequence[str]) -> Iterator[str]:
    """Each, then without the parts that OpenVINO's passes put behind it."""
    for name in listed:
        short = name
        while short:
            yield short
            short = short.rpartition("/")[0]


def _moved(node: Any, kind: str) -> list[Any]:
    """The tensors that it reads and writes; of a table only the rows that are looked up."""
    if kind.startswith("Gather"):
        return [*node.outputs(), *node.outputs(), *node.input_values()[1:]]
    return [*node.input_values(), *node.outputs()]


def _bytes(ports: Sequence[Any]) -> int | None:
    """Of tensors of an execution graph, whose nodes say the precision of their results."""
    total = 0.0
    for port in ports:
        info = port.get_node().get_rt_info()
        kinds = _text(info, "outputPrecisions").split(",")
        kind = kinds[min(port.get_index(), len(kinds) - 1)]
        shape = port.get_partial_shape()
        if shape.is_dynamic or (kind not in _BYTES and 0 not in shape.to_shape()):
            return None
        total += float(np.prod(shape.to_shape())) * _BYTES.get(kind, 0)
    return int(total)


def _graph(model: ov.Model) -> Graph:
    tensors: dict[str, Tensor] = {}
    operators = []
    names: dict[tuple[str, int], str] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        for port in node.outputs():
            shape = port.get_partial_shape()
            known = None if shape.is_dynamic else tuple(shape.to_shape())
            own = port.get_names()
            name = min(own) if own else f"{node.get_friendly_name()}:{port.get_index()}"
            names[node.get_name(), port.get_index()] = name
            tensors[name] = Tensor(dtype_of(port), known, stored=kind == "Constant")
        if kind in {"Parameter", "Constant", "Result"}:
            continue
        inputs = tuple(
            names[port.get_node().get_name(), port.get_index()] for port in node.input_values()
        )
        outputs = tuple(names[node.get_name(), port.get_index()] for port in node.outputs())
        attributes = {
            key: int(value)
            for key, value in node.get_attributes().items()
            if isinstance(value, bool | int)
        }
        operators.append(Operator(node.get_friendly_name(), kind, inputs, outputs, attributes))
    notes: dict[str, str] = {}
    if model.has_rt_info(MODULES_INFO):
        modules = json.loads(model.get_rt_info(MODULES_INFO).astype(str))
        notes = {tensor: module for module, listed in modules.items() for tensor in listed}
    return Graph(tuple(operators), tensors, notes)
