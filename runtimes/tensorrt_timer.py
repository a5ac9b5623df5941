"""How long each layer takes in an engine of TensorRT: its profiler and its inspector."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from edgekit.runtimes.base import Session
from edgekit.runtimes.timer import Executed, Graph, LayerTimer, Timings, warm_up

from edgekit.spec import Array, Feeds

__all__ = ["TensorRtTimer", "layer_profiler", "read_layers"]

_PRECISIONS = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "Int8": "int8", "FP8": "fp8"}
_SIZES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "FP8": 1, "Int32": 4, "Int64": 8,
          "Bool": 1}  # fmt: skip
#: Layers that the builder adds to bring data into another form.
_ADDED = ("Reformat", "NoOp")


class TensorRtTimer(LayerTimer):
    """Runs with a profiler on the execution context, which the engine calls after each inference.

    Args:
        trt: the package.
        session: of the engine.
        engine: of it.
        context: that runs it.
    """

    def __init__(self, trt: Any, session: Session, engine: Any, context: Any) -> None:
        self._session = session
        inspector = engine.create_engine_inspector()
        inspector.execution_context = context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        self._executed = read_layers(text)
        self._profiler = layer_profiler(trt)
        context.profiler = self._profiler
        context.enqueue_emits_profile = True
        self._turns: list[int] = []
        self._whole: list[int] = []
        self._rows: list[dict[str, float]] = []

    def turn(self, feeds: Feeds, count: int) -> None:
        warm_up(lambda: self._session.run(feeds))
        for _ in range(count):
            self._profiler.times = {}
            start = time.perf_counter_ns()
            self._session.run(feeds)
            self._whole.append(time.perf_counter_ns() - start)
            self._rows.append(self._profiler.times)
        self._turns.append(count)

    def finish(self) -> Timings:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        known = {one.node: one for one in self._executed}
        executed = tuple(known.get(name) or _named(name) for name in names)
        layers = np.array([[row.get(name, 0.0) for name in names] for row in self._rows])
        whole, layers_ns = np.array(self._whole, float), _ns(layers, len(names))
        turns = np.repeat(np.arange(len(self._turns)), self._turns)
        return Timings(executed, Graph(), turns, whole, np.zeros_like(whole), layers_ns, len(whole))

    def close(self) -> None:
        self._session.close()


def layer_profiler(trt: Any) -> Any:
    """A profiler with the milliseconds of each layer, by name, in ``times``."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]  # the base is known when it is loaded
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name] = self.times.get(layer_name, 0.0) + ms

    return Profiler()


def read_layers(text: str) -> tuple[Executed, ...]:
    """What the engine inspector says, as JSON, of each layer.

    An engine that was built without detailed verbosity gives names only. Names tell the operators
    of the ONNX graph that were fused: ``node_conv2d + node_relu``.
    """
    layers: Sequence[Any] = json.loads(text).get("Layers", [])
    makers: dict[str, int] = {}
    executed = []
    for position, layer in enumerate(layers):
        if isinstance(layer, str):
            executed.append(_named(layer))
            continue
        inputs, outputs = layer.get("Inputs", []), layer.get("Outputs", [])
        kind = layer.get("LayerType", "")
        name = layer["Name"]
        read = (makers[one["Name"]] for one in inputs if one["Name"] in makers)
        formats = [str(one.get("Format/Datatype", "")) for one in (*inputs, *outputs)]
        executed.append(
            Executed(
                node=name,
                op=layer.get("ParameterType", kind),
                precision=next((p for word, p in _PRECISIONS.items() if word in formats[0]), "")
                if formats
                else "",
                kernel=layer.get("TacticName", ""),
                computes=_parts(name),
                reads=tuple(dict.fromkeys(read)),
                bytes=_bytes([*inputs, *outputs], layer),
                inserted=kind in _ADDED,
            )
        )
        makers |= {one["Name"]: position for one in outputs}
    return tuple(executed)


def _named(name: str) -> Executed:
    inserted = name.startswith("Reformatting")
    return Executed(name, "", computes=() if inserted else _parts(name), inserted=inserted)


def _parts(name: str) -> tuple[str, ...]:
    """``__myl_Conv`` and the like name no operator; they stay as they are."""
    plain = name.replace("PWN(", "").replace(")", "").replace(" || ", " + ").replace(", ", " + ")
    return (name, *(part.strip() for part in plain.split(" + ")))


def _bytes(tensors: Sequence[Mapping[str, Any]], layer: Mapping[str, Any]) -> int | None:
    total = 0
    for tensor in tensors:
        kind = str(tensor.get("Format/Datatype", ""))
        size = next((size for word, size in _SIZES.items() if word in kind), None)
        shape = tensor.get("Dimensions", [])
        if size is None or any(dim < 0 for dim in shape):
            return None
        total += int(np.prod(shape)) * size
    for role in ("Weights", "Bias"):
        stored = layer.get(role, {})
        total += int(stored.get("Count", 0)) * _SIZES.get(stored.get("Type", ""), 0)
    return total


def _ns(milliseconds: Array, columns: int) -> Array:
    return milliseconds.reshape(-1, columns) * 1e6
