"""The recipe step for compressed weights: which operators, and in which form for each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal, TypeVar

import numpy as np
import onnx_ir as ir

from edgekit.calibration import Gram
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import quantize_weight, weight_scale
from edgekit.compress.quantize.linears import (
    LinearGroup,
    fold_transposes,
    has_factors,
    linear_groups,
)
from edgekit.compress.quantize.quantized import refuse_quantized
from edgekit.compress.quantize.weight_only import forms
from edgekit.compress.quantize.weight_only.awq import channel_scale
from edgekit.compress.quantize.weight_only.constants import Constant, linear_weights, tables
from edgekit.compress.quantize.weight_only.gptq import gptq
from edgekit.compress.quantize.weight_only.grid import Bits, Grid, GroupedWeight
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.exporters.opset import raise_opset

__all__ = ["WeightOnly"]

_SAMPLES = 512
#: Second moments are collected together up to this many float64 entries (512 MB).
_ENTRIES = 1 << 26
#: An AWQ scale that no LayerNormalization absorbs costs an operator: it has to gain this factor.
_LEAST_GAIN = 1.1

_T = TypeVar("_T")


class WeightOnly(GraphPass):
    """4-bit or 8-bit weights of linear layers and int8 embedding tables; activations stay float.

    What it saves is memory: the file, and the traffic of reading weights when few rows share
    them, as in a decoder. Engines quantize activations for the product themselves where the CPU
    has int8 dot products: ONNX Runtime is told to (``accuracy_level`` 4), OpenVINO does so on its
    own.

    Attributes:
        bits: of a weight.
        group: inputs that share a scale, 0 for all.
        symmetric: without zero points, which is a little smaller; asymmetric is a little closer.
        method: ``rtn`` rounds to nearest and needs no data, ``gptq`` lets later weights make up
            for earlier ones, ``awq`` scales the important channels up first.
        embeddings: store tables that Gather reads as int8, each row with its scale.
    """

    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"quantized weights"})
    undoes: ClassVar[frozenset[str]] = frozenset(
        {"quantized weights", "half precision", "stored palettes", "learnt scales"}
    )

    type: Literal["weight-only"]
    bits: Bits = 4
    group: Literal[0, 16, 32, 64, 128, 256] = 128
    symmetric: bool = True
    method: Literal["rtn", "gptq", "awq"] = "gptq"
    embeddings: bool = True

    @property
    def label(self) -> str:
        return f"int{self.bits}-weights"

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        refuse_quantized(model)
        dequantizes = context.profile.weight_only == "dequantize"
        if dequantizes and (self.bits == 4 or self.group):
            raise_opset(model)
        fold_transposes(model, context.keep_float)
        total = len(model.graph)
        details = self._scale(model, context) if self.method == "awq" else []
        weights = linear_weights(model, context.keep_float)
        # Everything is decided on the float graph before the first operator changes.
        quantized = self._quantized(model, weights, context)
        embeddings = list(tables(model, context.keep_float)) if self.embeddings else []
        for weight in weights:
            _write(model.graph, weight, quantized[weight.name], context)
        for table in embeddings:
            steps, parameters = quantize_weight(table.array, 0, weight_scale(table.array, 0))
            write = forms.dequantized_table if dequantizes else forms.gathered_rows
            write(model.graph, table.name, steps, parameters.scale, table.nodes)
        model.graph.sort()
        if embeddings:
            details.append(f"{len(embeddings)} embedding tables are int8")
        changed = sum(len(one.nodes) for one in (*weights, *embeddings))
        return PassReport(self.type, changed, total, tuple(details))

    def grid(self, inputs: int, context: GraphContext) -> Grid:
        """The grid of a layer with that many inputs."""
        grid = Grid(self.bits, self.group if self.group < inputs else 0, self.symmetric)
        if context.profile.weight_only == "dequantize":
            return forms.openvino_grid(grid, inputs)
        return grid

    def _quantized(
        self, model: ir.Model, weights: Sequence[Constant], context: GraphContext
    ) -> dict[str, GroupedWeight]:
        """Each weight on its grid, by the name of the constant."""
        if self.method != "gptq":
            grids = {w.name: self.grid(len(w.array), context) for w in weights}
            return {w.name: round_to_nearest(w.array, grids[w.name]) for w in weights}
        found = {}
        for batch in _batches(weights, lambda w: len(w.sources) * len(w.array) ** 2):
            grams = {name: Gram(size) for w in batch for name, size in w.sources.items()}
            context.calibrator.observe(model, grams, _SAMPLES)
            for weight in batch:
                moment = np.sum([grams[name].matrix for name in weight.sources], axis=0)
                rows = sum(grams[name].rows for name in weight.sources)
                grid = self.grid(len(weight.array), context)
                found[weight.name] = gptq(weight.array, moment, grid, rows=rows)
        return found

    def _scale(self, model: ir.Model, context: GraphContext) -> list[str]:
        """Scale the inputs of layers as AWQ finds best."""
        details = []
        groups = [g for g in linear_groups(model) if not _kept(g, context)]
        for batch in _batches(groups, lambda g: len(g.weights[0]) ** 2):
            grams = {str(group.source.name): Gram(len(group.weights[0])) for group in batch}
            context.calibrator.observe(model, grams, _SAMPLES)
            for group in batch:
                gram, grid = (
                    grams[str(group.source.name)],
                    self.grid(len(group.weights[0]), context),
                )
                found = channel_scale(group.weights, gram, grid, least_gain=_LEAST_GAIN)
                if found is not None:
                    group.scale_by(model.graph, found[0])
                    details.append(f"{group.nodes[0].name}: error {found[1]:.2f}x smaller")
        return details


def _kept(group: LinearGroup, context: GraphContext) -> bool:
    return any(node.name in context.keep_float or has_factors(node) for node in group.nodes)


def _write(
    graph: ir.Graph, weight: Constant, quantized: GroupedWeight, context: GraphContext
) -> None:
    """Let the operators read the quantized weight in the form that the engine knows."""
    if context.profile.weight_only == "dequantize":
        real = forms.decompressed(graph, weight.name, quantized, swapped=weight.swapped)
        for node in weight.nodes:
            node.replace_input_with(1, real)
        return
    # Without VNNI, byte products may saturate; 4 bits are too small to.
    exact = quantized.grid.bits == 8 and context.target.saturates
    constants = forms.nbits_constants(graph, weight.name, quantized)
    for node in weight.nodes:
        forms.matmul_nbits(graph, node, quantized, constants, accuracy=1 if exact else 4)


def _batches(items: Sequence[_T], entries: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Parts whose second moments fit in memory together."""
    batch: list[_T] = []
    used = 0
    for item in items:
        if batch and used + entries(item) > _ENTRIES:
            yield batch
            batch, used = [], 0
        batch.append(item)
        used += entries(item)
    if batch:
        yield batch
