"""Whether two graphs compute the same, by running both on random inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from edgekit.exporters.passes.random_inputs import random_inputs

from edgekit.spec import Array, Feeds, Outputs

__all__ = ["Proof", "UnprovableError"]

#: Dynamic dimensions are proven at so many sizes.
_SIZES = 2

#: How much a result may change, in units of the output's largest value. A rewrite that rounds in
#: another order changes some 1e-6 of it in float32, but up to one of their steps where numbers are
#: rounded to fewer bits on the way.
_TOLERANCE = 1e-4
_COARSE_TOLERANCE = 2e-2
_COARSE = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})

_CHANCE = frozenset(
    {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip

#: Weights of more bytes are handed to the engine as they lie in memory, not in the file.
_LARGE = 1024


class UnprovableError(Exception):
    """A graph cannot be run here, or not twice with the same result; the message says why."""


class _Case(NamedTuple):
    """Inputs and what the graph makes of them."""

    feeds: Feeds
    outputs: Outputs


class Proof:
    """What a graph computes on random inputs, for comparison with changed graphs.

    ONNX Runtime runs them without optimizations of its own.

    Args:
        model: the graph; it is not changed.

    Raises:
        UnprovableError: it cannot be run on random inputs, or its results are random.
    """

    def __init__(self, model: ir.Model) -> None:
        bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        nodes = [node for body in bodies for node in ir.traversal.RecursiveGraphIterator(body)]
        chance = [node for node in nodes if node.op_type in _CHANCE]
        if chance:
            raise UnprovableError(f"node {chance[0].name!r} draws random numbers")
        coarse = any(node.op_type in _COARSE for node in nodes) or _has_half(model.graph)
        self._tolerance = _COARSE_TOLERANCE if coarse else _TOLERANCE
        self._cases = list(islice(_cases(model), _SIZES))

    def error(self, changed: ir.Model) -> str | None:
        """How the outputs of ``changed`` differ beyond rounding; None when they do not."""
        try:
            session = _Session(changed)
            results = [session.run(case.feeds) for case in self._cases]
        except UnprovableError as error:
            return f"it cannot be run any more: {error}"
        for case, got in zip(self._cases, results, strict=True):
            if list(got) != list(case.outputs):
                return f"the outputs are {list(got)} instead of {list(case.outputs)}"
            for name, wanted in case.outputs.items():
                difference = _difference(wanted, got[name])
                if difference > self._tolerance:
                    return (
                        f"output {name!r} differs by {difference:.2g} of its largest value "
                        f"({self._tolerance:g} is allowed)"
                    )
        return None

    def place(self, model: ir.Model, changed: ir.Model) -> str | None:
        """The first node whose result differs between two graphs, by the names of their tensors.

        None where no tensor of one name differs, or one of the graphs cannot be run.
        """
        computed = {value.name for node in model.graph for value in node.outputs if value.name}
        shared = [
            str(value.name)
            for node in changed.graph
            for value in node.outputs
            if value.name in computed
        ]
        feeds = self._cases[0].feeds
        try:
            wanted = _Session(model, shared).run(feeds)
            got = _Session(changed, shared).run(feeds)
        except UnprovableError:
            return None
        for node in changed.graph:
            for value in node.outputs:
                name = str(value.name)
                if name in wanted and _difference(wanted[name], got[name]) > self._tolerance:
                    return node.name
        return None


def _cases(model: ir.Model) -> Iterator[_Case]:
    """Inputs that the graph accepts, with its outputs; at least one."""
    session = _Session(model)
    failure, found = "", False
    try:
        for feeds in random_inputs(model.graph):
            try:
                outputs = session.run(feeds)
            except UnprovableError as error:
                failure = failure or str(error)
                continue
            found = True
            yield _Case(feeds, outputs)
    except ValueError as error:
        raise UnprovableError(str(error)) from error
    if not found:
        raise UnprovableError(f"it does not run on random inputs: {failure}")


class _Session:
    """ONNX Runtime on a graph in memory, of any size: it reads large weights where they are.

    Args:
        model: the graph.
        tensors: names of tensors to return besides its outputs.
    """

    def __init__(self, model: ir.Model, tensors: Sequence[str] = ()) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 4  # failures arrive as exceptions
        try:
            lean = model.clone()
            _add_outputs(lean.graph, tensors)
            self._weights = _take_weights(lean.graph)
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
            content = ir.to_proto(lean).SerializeToString()
            self._session = ort.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both raise many unrelated types on a broken graph
            raise UnprovableError(_first_line(error)) from error

    def run(self, feeds: Feeds) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # as above
            raise UnprovableError(_first_line(error)) from error


def _take_weights(graph: ir.Graph) -> dict[str, ort.OrtValue]:
    """The large weights; the graph keeps only their names."""
    weights = {}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _LARGE or tensor.dtype.numpy().kind not in "biuf":
            continue
        array = np.ascontiguousarray(tensor.numpy())
        weights[name] = ort.OrtValue.ortvalue_from_numpy(array)
        value.const_value = ir.ExternalTensor(
            "in-memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
        )
    return weights


def _add_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    wanted = set(names) - {str(value.name) for value in graph.outputs}
    for node in list(graph):
        graph.outputs.extend(value for value in node.outputs if value.name in wanted)


def _has_half(graph: ir.Graph) -> bool:
    values = [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    return any(value.dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16} for value in values)


def _difference(wanted: Array, got: Array) -> float:
    """The largest difference, in units of the largest finite number wanted.

    Infinite where shape or type differ, where only one of both is not finite, and for numbers that
    are not rounded: these are the same or not.
    """
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return np.inf
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(wanted, got) else np.inf
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], got[~finite], equal_nan=True):
        return np.inf
    a, b = wanted[finite].astype(np.float64), got[finite].astype(np.float64)
    error = float(np.abs(a - b).max(initial=0.0))
    if not np.isfinite(error):
        return np.inf
    return error / float(np.abs(a).max()) if error and a.any() else error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
