"""A program of ``torch.export`` run operator by operator, with every result inside."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from edgekit.runtimes.base import Layer, given_name
from torch import fx
from torch.export import ExportedProgram

from edgekit.quiet import quiet

__all__ = ["LayerByLayer"]


class LayerByLayer:
    """Runs the operators that the ONNX exporter makes of a program, so that names are the same.

    Args:
        program: from ``torch.export``.
        inputs: what its arguments are called, in order.
        outputs: what its results are called, in order.
        given: see :attr:`~.base.SessionOptions.given`, by name.

    Attributes:
        layers: every floating-point result inside.
    """

    def __init__(
        self,
        program: ExportedProgram,
        inputs: Sequence[str],
        outputs: Sequence[str],
        given: Sequence[str],
    ) -> None:
        with quiet():
            converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None
        assert converted.exported_program is not None
        self._graph = converted.exported_program.module()
        self._inputs, self._outputs, self._given = inputs, outputs, given
        nodes = list(self._graph.graph.nodes)
        arguments = (node for node in nodes if node.op == "placeholder")
        known = dict(zip(arguments, inputs, strict=True))
        self._results = [node.name for node in nodes[-1].args[0]]
        self.layers = tuple(_layers(nodes, known, dict(zip(self._results, outputs, strict=True))))

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs and every result inside, by name."""
        run = _Recorder(self._graph, {name: feeds[given_name(name)] for name in self._given})
        arguments = (feeds[name] for name in self._inputs)
        results = run.run(*arguments, enable_io_processing=False)
        own = zip(self._outputs, self._results, results, strict=True)
        inside = {layer.tensor: run.found[layer.tensor] for layer in self.layers}
        return {name: run.found.get(node, value) for name, node, value in own} | inside


class _Recorder(fx.Interpreter):
    """Keeps what each operator computes; who reads one of ``given`` reads that tensor instead."""

    def __init__(self, graph: fx.GraphModule, given: Mapping[str, torch.Tensor]) -> None:
        super().__init__(graph)
        self._given = given
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            self.found[n.name] = result
        return self._given.get(n.name, result)


def _layers(
    nodes: Sequence[fx.Node], known: dict[fx.Node, str], outputs: Mapping[str, str]
) -> Iterator[Layer]:
    """The operators whose result is a floating-point tensor that depends on an input.

    Args:
        nodes: of the graph, in order.
        known: names of the inputs.
        outputs: what the ONNX exporter calls results that are outputs.
    """
    sources: dict[fx.Node, tuple[str, ...]] = {node: (name,) for node, name in known.items()}
    for node in nodes:
        read = tuple(dict.fromkeys(s for arg in node.all_input_nodes for s in sources.get(arg, ())))
        value = node.meta.get("val")
        if node.op != "call_function" or not read:
            continue
        sources[node] = read  # passed on by a tuple or a size, which is no layer itself
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            sources[node] = (node.name,)
            names = dict.fromkeys((node.name, outputs.get(node.name, node.name)))
            yield Layer(node.name, _operator(node), node.name, read, tuple(names))


def _operator(node: fx.Node) -> str:
    """``aten.conv2d`` of ``aten.conv2d.default``; of a part of a tuple, the operator it is of."""
    source = node.all_input_nodes[0] if node.target is operator.getitem else node
    return ".".join(str(source.target).split(".")[:2])
