"""Operations that only move, copy, drop or look up entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from edgekit.compress.prune.labels import Axis, Layer, Value, join, move, reduce
from edgekit.compress.prune.walk import (
    Result,
    Walk,
    argument,
    like,
    name_of,
    shape_of,
    shapes_of,
    unknown,
)

__all__ = [
    "concatenating",
    "embedding",
    "expanding",
    "gathering",
    "getitem",
    "indexing",
    "moving",
    "padding",
    "permuting",
    "putting",
    "scattering",
    "selecting",
    "splitting",
    "striding",
    "viewing",
]


def moving(walk: Walk, node: fx.Node) -> Result:
    """View, permute, slice, expand, repeat, flip, roll: run on the labels."""
    operand = walk.value(node.args[0])
    target: Any = node.target

    def run(tensor: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = target(tensor, *node.args[1:], **node.kwargs)
        return result

    result = move(walk.labels, operand, run, shape_of(node))
    return _noted(walk, node, result)


def viewing(walk: Walk, node: fx.Node) -> Result:
    """View and reshape, which labels that are broadcast do not allow as they are."""
    operand = walk.value(node.args[0])
    shape = shape_of(node)
    return _noted(walk, node, move(walk.labels, operand, lambda t: t.reshape(shape), shape))


def expanding(walk: Walk, node: fx.Node) -> Result:
    """Expand: the new entries are equal."""
    operand, shape = walk.value(node.args[0]), shape_of(node)
    more = len(shape) - len(operand.shape)
    result = move(walk.labels, operand, lambda t: t.expand(shape), shape)
    wild = frozenset(
        d
        for d in range(len(shape))
        if d < more or operand.shape[d - more] == 1 or d - more in operand.wild
    )
    return _noted(walk, node, replace(result, wild=wild))


def permuting(walk: Walk, node: fx.Node) -> Result:
    """Permute, keeping track of broadcast dimensions."""
    operand, order = walk.value(node.args[0]), argument(node, 1, "dims")
    rank = len(operand.shape)
    places = [int(d) % rank for d in order]
    result = move(walk.labels, operand, lambda t: t.permute(places), shape_of(node))
    wild = frozenset(new for new, old in enumerate(places) if old in operand.wild)
    return replace(result, wild=wild)


def _noted(walk: Walk, node: fx.Node, result: Value) -> Value:
    if node not in walk.weights:
        walk.note_sizes(result)
    return result


def padding(walk: Walk, node: fx.Node) -> Result:
    """Constant padding: what is added to units belongs to label 0, which stays."""
    operand = walk.value(node.args[0])
    pads: Any = node.args[1]
    rank = len(operand.shape)
    layers = []
    for layer in walk.labels.settle(operand.layers):
        widths = [(0, 0)] * rank
        for place in range(len(pads) // 2):
            if rank - 1 - place in layer.support:
                widths[rank - 1 - place] = (pads[2 * place], pads[2 * place + 1])
        crop = tuple(
            slice(max(-low, 0), layer.labels.shape[d] - max(-high, 0))
            for d, (low, high) in enumerate(widths)
        )
        grown = [(max(low, 0), max(high, 0)) for low, high in widths]
        layers.append(replace(layer, labels=np.pad(layer.labels[crop], grown)))
    return Value(shape_of(node), walk.labels.settle(layers))


def concatenating(walk: Walk, node: fx.Node) -> Result:
    """Cat: dimensions but one are united, along that one labels follow each other."""
    parts: Any = node.args[0]
    values = [walk.value(one) for one in parts]
    shape = shape_of(node)
    dim = int(argument(node, 1, "dim", 0)) % len(shape)
    values = [one for one in values if len(one.shape) == len(shape)]  # legacy empty tensors
    values = _shared(walk, values, dim)
    layers: list[Layer] = []
    for value in values:  # each part's layers that do not vary along dim are now everyone's
        layers += [
            one
            for one in value.layers
            if dim not in one.support and not any(one.support & met.support for met in layers)
        ]
    pieces, origins = [], frozenset[Axis]()
    for value in values:
        piece = np.zeros((1,) * len(shape), np.int64)
        for layer in value.layers:
            if dim in layer.support:
                piece, origins = layer.labels, origins | layer.origins
        pieces.append((piece, value.shape[dim]))
    wide = np.broadcast_shapes(*(_at(p.shape, dim, 1) for p, _ in pieces))
    joined = np.concatenate(
        [np.broadcast_to(p, _at(wide, dim, size)) for p, size in pieces], axis=dim
    )
    settled = walk.labels.settle([*layers, Layer(joined, origins)])
    everywhere = frozenset(range(len(shape))).intersection(*(one.wild for one in values))
    return _consumed(walk, node, Value(shape, settled, everywhere))


def _at(shape: Sequence[int], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _shared(walk: Walk, values: list[Value], dim: int) -> list[Value]:
    """The parts of a cat after their other dimensions were united."""
    total = Value(_at(values[0].shape, dim, 1))
    total = replace(total, wild=frozenset(range(len(total.shape))))
    for value in values:
        off = [one for one in value.layers if dim not in one.support]
        flat = Value(_at(value.shape, dim, 1), walk.labels.settle(off), value.wild)
        crossing = [one for one in value.layers if dim in one.support and len(one.support) > 1]
        flat_varies = {d for one in crossing for d in one.support}
        flat = replace(flat, wild=flat.wild | flat_varies)
        total = join(walk.labels, total, flat)
    return [replace(one, layers=walk.labels.settle(one.layers)) for one in values]


def splitting(walk: Walk, node: fx.Node) -> Result:
    """Split, chunk, unbind: several moves; parts of one size stay of one size."""
    operand = walk.value(node.args[0])
    results: list[Value] = []
    target: Any = node.target
    for place, shape in enumerate(shapes_of(node)):

        def run(tensor: torch.Tensor, place: int = place) -> torch.Tensor:
            parts: Any = target(tensor, *node.args[1:], **node.kwargs)
            result: torch.Tensor = parts[place]
            return result

        results.append(move(walk.labels, operand, run, shape))
    if name_of(node) != "unbind" and len(set(shapes_of(node))) == 1:
        for part in results[1:]:  # chunk(n) gives parts of one size, whatever that is
            for left, right in zip(results[0].layers, part.layers, strict=False):
                if left.labels.shape == right.labels.shape:
                    walk.labels.unite(left.labels, right.labels)
    return [_noted(walk, node, part) for part in results]


def getitem(walk: Walk, node: fx.Node) -> Result:
    """One of several results."""
    source, place = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(place, int)
    results = walk.values[source]
    return results[place] if isinstance(results, list) else results


def embedding(walk: Walk, node: fx.Node) -> Result:
    """Rows of a table: their number is fixed, their width is a channel dimension."""
    table = walk.labels.fixed(walk.value(node.args[0]), [0])
    shape = shape_of(node)
    rows = move(
        walk.labels,
        table,
        lambda t: t[:1].reshape((1,) * (len(shape) - 1) + (-1,)),
        (1,) * (len(shape) - 1) + shape[-1:],
    )
    return walk.consumed(replace(rows, shape=shape), "out")


def indexing(walk: Walk, node: fx.Node) -> Result:
    """``x[..., i, ...]`` with tensors for indices: indexed dimensions are fixed."""
    indices: Any = node.args[1]
    indexed = [d for d, index in enumerate(indices) if index is not None]
    operand = walk.labels.fixed(walk.value(node.args[0]), indexed)

    def run(tensor: torch.Tensor) -> torch.Tensor:
        zeros = tuple(
            slice(None) if one is None else torch.zeros(shape_of(one), dtype=torch.int64)
            for one in indices
        )
        return tensor[zeros]

    shape = shape_of(node)
    booleans = any(i is not None and i.meta["val"].dtype == torch.bool for i in indices)
    return unknown(walk, node) if booleans else move(walk.labels, operand, run, shape)


def selecting(walk: Walk, node: fx.Node) -> Result:
    """``index_select``: the dimension is fixed, the others stay."""
    return like(walk, node, [argument(node, 1, "dim")])


def gathering(walk: Walk, node: fx.Node) -> Result:
    """Gather: the dimension is fixed, along the others operand and index agree."""
    value, dim = walk.value(node.args[0]), int(argument(node, 1, "dim"))
    index = walk.value(argument(node, 2, "index"))
    if not value.shape:
        return value
    dim %= len(value.shape)
    value = walk.labels.fixed(value, [dim])
    index = walk.labels.fixed(index, [dim])
    joined = join(walk.labels, reduce(walk.labels, value, [dim], keep=True), index)
    return replace(joined, shape=shape_of(node))


def scattering(walk: Walk, node: fx.Node) -> Result:
    """Scatter, with or without a sum: the dimension is fixed, along the others all agree."""
    result = walk.value(node.args[0])
    if not result.shape:
        return result
    dims = [int(argument(node, 1, "dim")) % len(result.shape)]
    result = walk.labels.fixed(result, dims)
    for one in (walk.value(node.args[2]), walk.value(node.args[3])):
        if one.shape:
            alike = reduce(walk.labels, walk.labels.fixed(one, dims), dims, keep=True)
            result = join(walk.labels, result, alike)
    return _consumed(walk, node, replace(result, shape=shape_of(node)))


def putting(walk: Walk, node: fx.Node) -> Result:
    """``x[..., i, ...] = values`` or ``+=``: indexed dimensions are fixed, the others agree."""
    indices: Any = node.args[1]
    indexed = tuple(d for d, index in enumerate(indices) if index is not None)
    tensors = [indices[d].meta["val"] for d in indexed]
    if any(one.dtype == torch.bool for one in tensors):
        return unknown(walk, node)
    # The values' dimensions: the indices' own come where the first index stands, or before all
    # others if something stands between two indices.
    adjacent = indexed[-1] - indexed[0] == len(indexed) - 1
    first = indexed[0] if adjacent else 0
    own = range(first, first + max(one.ndim for one in tensors))
    rest = [d for d in range(len(shape_of(node))) if d not in indexed]
    rank = len(rest) + len(own)
    blank = Value((1,) * rank, wild=frozenset(range(rank)))
    values = join(walk.labels, blank, walk.value(node.args[2]))
    values = reduce(walk.labels, walk.labels.fixed(values, own), own)
    lifted = Value(
        np.expand_dims(np.broadcast_to(0, values.shape), indexed).shape,
        tuple(replace(one, labels=np.expand_dims(one.labels, indexed)) for one in values.layers),
        frozenset(rest[d] for d in values.wild),
    )
    operand = walk.labels.fixed(walk.value(node.args[0]), indexed)
    return _consumed(walk, node, join(walk.labels, operand, lifted))


def _consumed(walk: Walk, node: fx.Node, result: Value) -> Value:
    """The result of several operands: a parameter among activations is no weight any more."""
    return (
        result if walk.weights.issuperset(node.all_input_nodes) else walk.consumed(result, "scale")
    )


def striding(walk: Walk, node: fx.Node) -> Result:
    """``as_strided``, where it is a view of all entries in order."""
    shape, size = shape_of(node), 1
    strides: Any = node.args[2]
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != size:
            return unknown(walk, node)
        size *= length
    same = size == np.prod(walk.value(node.args[0]).shape, dtype=np.int64)
    return viewing(walk, node) if same else unknown(walk, node)
