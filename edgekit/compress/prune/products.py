"""Products of matrices and what is built of them (convolution, attention, LSTM), and norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from edgekit.compress.prune.labels import Value, join, move, reduce
from edgekit.compress.prune.walk import (
    Result,
    Walk,
    argument,
    like,
    name_of,
    reshaped,
    several,
    shape_of,
    shapes_of,
)

__all__ = [
    "addmm",
    "attention",
    "batch_norm",
    "convolution",
    "group_norm",
    "layer_norm",
    "product",
    "recurrent",
    "spatial",
]


def product(walk: Walk, node: fx.Node) -> Result:
    """``mm`` and ``bmm``: ``(..., n, k) @ (..., k, m)``."""
    return _matrices(walk, walk.value(node.args[0]), walk.value(node.args[1]))


def addmm(walk: Walk, node: fx.Node) -> Result:
    """``bias + left @ right``."""
    bias, left, right = (walk.value(one) for one in node.args[:3])
    result = _matrices(walk, left, right)
    return walk.consumed(join(walk.labels, result, bias), "scale")


def _matrices(walk: Walk, left: Value, right: Value) -> Value:
    def wide(value: Value, place: int) -> Value:
        rank = len(value.shape) + 1
        shape = list(value.shape)
        shape.insert(place % rank, 1)
        return move(walk.labels, value, lambda t: t.unsqueeze(place), shape)

    left, right = wide(left, -1), wide(right, -3)
    return walk.product(left, right, [-2])


def attention(walk: Walk, node: fx.Node) -> Result:
    """Scaled dot products ``(..., n, d), (..., s, d), (..., s, v)``; the first result is theirs."""
    query, key, value = (walk.value(one) for one in node.args[:3])
    order = [*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2]
    turned = move(walk.labels, key, lambda t: t.permute(order), [key.shape[d] for d in order])
    scores = _matrices(walk, query, turned)
    mask = argument(node, 3, "attn_mask")
    if not isinstance(mask, fx.Node):
        mask = node.kwargs.get("attn_mask")
    if isinstance(mask, fx.Node):
        scores = walk.consumed(join(walk.labels, scores, walk.value(mask)), "scale")
    result = _matrices(walk, scores, value)
    if not several(node):
        return result
    return [result, *map(_aside, shapes_of(node)[1:])]


def recurrent(walk: Walk, node: fx.Node) -> Result:
    """LSTM and GRU: all layers and directions have one hidden size, and so one set of units."""
    states, weights = node.args[1], node.args[2]
    assert isinstance(weights, Sequence)
    gates = 4 if name_of(node) == "lstm" else 3
    biases, count, both = bool(node.args[3]), int(node.args[4]), bool(node.args[7])  # type: ignore[arg-type]
    each = 4 if biases else 2
    directions = 2 if both else 1
    known = [walk.value(one) for one in weights]
    hidden = known[1].shape[1]
    state = Value((hidden,), wild=frozenset({0}))
    for initial in states if isinstance(states, Sequence) else [states]:
        given = walk.labels.fixed(walk.value(initial), [0, 1])
        state = join(walk.labels, state, reduce(walk.labels, given, [0, 1]))
    current = walk.value(node.args[0])
    lead = current.shape[:-1]
    for layer in range(count):
        for direction in range(directions):
            start = (layer * directions + direction) * each
            into, within, *shifts = known[start : start + each]
            gated = _per_gate(walk, into, gates)
            wide = reshaped(walk, current, (*lead, 1, current.shape[-1]))
            made = reduce(walk.labels, walk.product(wide, gated, [-1]), range(len(lead)))
            state = join(walk.labels, state, made)
            row = reshaped(walk, state, (1, hidden))
            again = walk.product(row, _per_gate(walk, within, gates), [-1])
            state = join(walk.labels, state, again)
            for shift in shifts:
                vector = reshaped(walk, shift, (*shift.shape, 1))
                vector = reshaped(walk, _per_gate(walk, vector, gates), (hidden,))
                state = walk.consumed(join(walk.labels, state, vector), "scale")
        width = directions * hidden
        twice = move(walk.labels, state, lambda t: t.repeat(directions), (width,))
        twice = reshaped(walk, twice, (*(1,) * len(lead), width))
        current = replace(twice, shape=(*lead, width))
    last = reshaped(walk, state, (1, 1, hidden))
    walk.note_sizes(state)
    return [current, *(replace(last, shape=shape) for shape in shapes_of(node)[1:])]


def _per_gate(walk: Walk, weight: Value, gates: int) -> Value:
    """A weight ``(gates * hidden, inputs)`` as ``(hidden, inputs)``: gates lose equally."""
    rows, inputs = weight.shape
    apart = reshaped(walk, weight, (gates, rows // gates, inputs))
    return reduce(walk.labels, walk.labels.fixed(apart, [0]), [0])


def convolution(walk: Walk, node: fx.Node) -> Result:
    """Convolution of any rank, transposed or not, in groups or depthwise."""
    x, weight = walk.value(node.args[0]), walk.value(node.args[1])
    transposed, groups = bool(node.args[6]), int(node.args[8])  # type: ignore[arg-type]
    rank = len(x.shape)
    x = walk.labels.fixed(x, range(2, rank))
    weight = walk.labels.fixed(weight, range(2, rank))
    x = reduce(walk.labels, x, range(2, rank))
    weight = reduce(walk.labels, weight, range(2, rank))
    inner = x.shape[1] // groups
    outer = weight.shape[1] if transposed else weight.shape[0] // groups
    x = reshaped(walk, x, (x.shape[0], groups, inner, 1))
    if transposed:
        weight = reshaped(walk, weight, (groups, inner, outer))
    else:
        weight = reshaped(walk, weight, (groups, outer, inner))
        weight = move(walk.labels, weight, lambda t: t.transpose(1, 2), (groups, inner, outer))
    if inner > 1 and groups > 1:  # all groups stay and lose equally
        x, weight = walk.labels.fixed(x, [1]), walk.labels.fixed(weight, [0])
    elif groups > 1:  # the number of groups is a number of channels
        walk.note_sizes(reshaped(walk, x, (x.shape[0], groups)))
    result = reshaped(walk, walk.product(x, weight, [2]), (x.shape[0], groups * outer))
    if isinstance(node.args[2], fx.Node):
        result = walk.consumed(join(walk.labels, result, walk.value(node.args[2])), "scale")
    shape = shape_of(node)
    return replace(reshaped(walk, result, (*shape[:2], *(1,) * (rank - 2))), shape=shape)


def _scaled(walk: Walk, value: Value, vectors: Sequence[Any], dim: int) -> Value:
    """The value with vectors along ``dim`` joined to it."""
    rank = len(value.shape)
    for vector in vectors:
        if isinstance(vector, fx.Node):
            known = walk.value(vector)
            shape = (1,) * dim + known.shape + (1,) * (rank - dim - len(known.shape))
            value = join(walk.labels, value, reshaped(walk, known, shape))
    return walk.consumed(value, "scale")


def _aside(shape: tuple[int, ...]) -> Value:
    """A further result that only a backward pass would use."""
    return Value(shape, wild=frozenset(range(len(shape))))


def batch_norm(walk: Walk, node: fx.Node) -> Result:
    """Batch norm in eval mode: weight, bias and running statistics go with the channels."""
    result = _scaled(walk, walk.value(node.args[0]), node.args[1:5], 1)
    return [result, *map(_aside, shapes_of(node)[1:])]


def layer_norm(walk: Walk, node: fx.Node) -> Result:
    """Layer norm: weight and bias along the last dimensions."""
    value, normalized = walk.value(node.args[0]), node.args[1]
    assert isinstance(normalized, Sequence)
    result = _scaled(walk, value, node.args[2:4], len(value.shape) - len(normalized))
    walk.note_sizes(reduce(walk.labels, result, range(len(value.shape) - len(normalized))))
    return [result, *map(_aside, shapes_of(node)[1:])]


def group_norm(walk: Walk, node: fx.Node) -> Result:
    """Group norm: the number of groups stays and each loses equally."""
    value = walk.value(node.args[0])
    channels, groups = value.shape[1], int(node.args[6])  # type: ignore[arg-type]
    rest = value.shape[2:]
    grouped = reshaped(walk, value, (value.shape[0], groups, channels // groups, *rest))
    if channels > groups:
        grouped = walk.labels.fixed(grouped, [1])
    else:
        walk.note_sizes(grouped)
    value = reshaped(walk, grouped, value.shape)
    result = _scaled(walk, value, node.args[1:3], 1)
    return [result, *map(_aside, shapes_of(node)[1:])]


def spatial(walk: Walk, node: fx.Node) -> Result:
    """Pooling, resizing: the last dimensions are places in an image."""
    value = walk.value(node.args[0])
    rank = len(value.shape)
    count = 1 if "1d" in name_of(node) else 3 if "3d" in name_of(node) else 2
    if "upsample" in name_of(node):
        count = rank - 2
    return like(walk, node, range(rank - count, rank))
