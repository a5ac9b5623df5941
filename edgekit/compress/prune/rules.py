"""What each ATen operation does to labels; one that is not here freezes what it touches.

Operations are those of the core ATen set, which ``ExportedProgram.run_decompositions`` leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx

from edgekit.compress.prune.labels import Axis, Index, Labels, Layer, Value, join, move, reduce

__all__ = ["RULES", "Result", "Size", "Walk", "shapes_of"]

Result = Value | list[Value]
Rule = Callable[["Walk", fx.Node], Result]

_RANK = {"scale": 0, "in": 1, "out": 2}


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """A size that the Python code of a module may hold as a number.

    Attributes:
        module: qualified name of the module whose code runs the operation.
        labels: the label of each entry along the dimension.
    """

    module: str
    labels: Index


@dataclass(slots=True)
class Walk:
    """The state of one walk over a graph.

    Attributes:
        labels: the union-find.
        values: what is known of each node's result.
        weights: nodes that are computed from parameters and constants alone.
        roles: what each axis of a parameter turned out to be for.
        sizes: sizes that modules' code may hold.
        unknown: operations without a rule, by module.
        module: the module whose code runs the operation at hand.
    """

    labels: Labels = field(default_factory=Labels)
    values: dict[fx.Node, Result] = field(default_factory=dict)
    weights: set[fx.Node] = field(default_factory=set)
    roles: dict[Axis, str] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    module: str = ""

    def value(self, argument: Any) -> Value:
        """What is known of an operand; a number is a tensor without dimensions."""
        if not isinstance(argument, fx.Node):
            return Value(())
        known = self.values[argument]
        assert isinstance(known, Value)
        return known

    def mark(self, layers: Sequence[Layer], role: str) -> None:
        """Note what the axes that layers come from are for."""
        for axis in (axis for layer in layers for axis in layer.origins):
            if _RANK[role] >= _RANK[self.roles.get(axis, "scale")]:
                self.roles[axis] = role

    def consumed(self, value: Value, role: str) -> Value:
        """The value as an activation: its layers come from no parameter any more."""
        self.mark(value.layers, role)
        return replace(
            value, layers=tuple(replace(one, origins=frozenset()) for one in value.layers)
        )

    def note_sizes(self, value: Value) -> None:
        """Note the sizes along which ``value`` varies."""
        for layer in value.layers:
            for dim in layer.support:
                # Where it varies along several dimensions, these end up as equal slices.
                first = tuple(slice(None if d == dim else 1) for d in range(layer.labels.ndim))
                self.sizes.append(Size(self.module, layer.labels[first].reshape(-1)))

    def product(self, left: Value, right: Value, dims: Sequence[int]) -> Value:
        """Entry by entry, then the sum over ``dims``: what every matrix product is."""
        both = join(self.labels, left, right)
        gone = {d % len(both.shape) for d in dims}
        self.mark([one for one in both.layers if one.support & gone], "in")
        self.mark([one for one in both.layers if not one.support & gone], "out")
        result = reduce(self.labels, both, dims)
        return replace(
            result, layers=tuple(replace(one, origins=frozenset()) for one in result.layers)
        )


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's (first) result."""
    return shapes_of(node)[0]


def _several(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), list | tuple)


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An operation's argument, given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _dims(dims: int | Sequence[int] | None, rank: int) -> list[int]:
    if dims is None or dims == []:
        return list(range(rank))
    return [d % rank for d in ([dims] if isinstance(dims, int) else dims)] if rank else []


# -- entry by entry -------------------------------------------------------------------------------


def pointwise(walk: Walk, node: fx.Node) -> Result:
    """Operands broadcast; a parameter among activations scales or shifts them."""
    operands = [one for one in node.all_input_nodes]
    if not operands:
        return constant(walk, node)
    result = Value(())
    for one in operands:
        result = join(walk.labels, result, walk.value(one)) if result.shape else walk.value(one)
    if not walk.weights.issuperset(operands):
        result = walk.consumed(result, "scale")
    return result


def constant(walk: Walk, node: fx.Node) -> Result:
    """Zeros, ones: equal entries, which fit any width."""
    shape = shape_of(node)
    return Value(shape, wild=frozenset(range(len(shape))))


def fixed_source(walk: Walk, node: fx.Node) -> Result:
    """Numbers that mean positions, as arange gives them."""
    return Value(shape_of(node))


def along(walk: Walk, node: fx.Node) -> Result:
    """Softmax, cumsum, flip: the operand's entries keep their places."""
    return walk.value(node.args[0])


def sorting(walk: Walk, node: fx.Node) -> Result:
    """Top-k, sort: places along the dimension mean nothing afterwards."""
    place = 2 if _name(node) == "topk" else 1
    return _like(walk, node, [argument(node, place, "dim", -1)])


def _like(walk: Walk, node: fx.Node, dims: Sequence[int]) -> Result:
    """Results of the operand's rank that keep its layers off ``dims``."""
    value = walk.value(node.args[0])
    value = walk.labels.fixed(value, [d % len(value.shape) for d in dims])
    results = [replace(value, shape=shape) for shape in shapes_of(node)]
    return results if _several(node) else results[0]


def shapes_of(node: fx.Node) -> list[tuple[int, ...]]:
    """The shapes of all results of a node; ``()`` for what is no tensor."""
    values = node.meta.get("val")
    values = values if isinstance(values, list | tuple) else [values]
    return [tuple(int(s) for s in getattr(one, "shape", ())) for one in values]


# -- reductions -----------------------------------------------------------------------------------


def reduction(walk: Walk, node: fx.Node) -> Result:
    """Mean, sum, max over dimensions."""
    value = walk.value(node.args[0])
    dims = argument(node, 1, "dim")
    dims = None if isinstance(dims, bool) else dims
    rank = len(value.shape)
    kept = len(shape_of(node)) == rank
    result = reduce(walk.labels, value, _dims(dims, rank), keep=kept)
    if _several(node):
        return [result] * len(shapes_of(node))
    return result


def norm_of(walk: Walk, node: fx.Node) -> Result:
    """``linalg_vector_norm``, whose dimensions come third."""
    value = walk.value(node.args[0])
    rank = len(value.shape)
    kept = len(shape_of(node)) == rank
    return reduce(walk.labels, value, _dims(argument(node, 2, "dim"), rank), keep=kept)


def picking(walk: Walk, node: fx.Node) -> Result:
    """Argmax: its result names places, so these are fixed."""
    value = walk.value(node.args[0])
    dims = _dims(argument(node, 1, "dim"), len(value.shape))
    value = walk.labels.fixed(value, dims)
    kept = len(shape_of(node)) == len(value.shape)
    return reduce(walk.labels, value, dims, keep=kept)


# -- moves ----------------------------------------------------------------------------------------


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
    operand, order = walk.value(node.args[0]), node.args[1]
    assert isinstance(order, Sequence)
    rank = len(operand.shape)
    places = [int(d) % rank for d in order]  # type: ignore[call-overload]
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
    result = Value(shape, settled, everywhere)
    if not walk.weights.issuperset(node.all_input_nodes):
        result = walk.consumed(result, "scale")
    return result


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
    """Split, chunk, unbind: several moves."""
    operand = walk.value(node.args[0])
    results: list[Value] = []
    target: Any = node.target
    for place, shape in enumerate(shapes_of(node)):

        def run(tensor: torch.Tensor, place: int = place) -> torch.Tensor:
            parts: Any = target(tensor, *node.args[1:], **node.kwargs)
            result: torch.Tensor = parts[place]
            return result

        results.append(_noted(walk, node, move(walk.labels, operand, run, shape)))
    return results


def getitem(walk: Walk, node: fx.Node) -> Result:
    """One of several results."""
    source, place = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(place, int)
    results = walk.values[source]
    return results[place] if isinstance(results, list) else results


# -- lookups --------------------------------------------------------------------------------------


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
    return _like(walk, node, [argument(node, 1, "dim")])


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


# -- products -------------------------------------------------------------------------------------


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
    if not _several(node):
        return result
    return [result, *(Value(shape) for shape in shapes_of(node)[1:])]


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
    x = _reshaped(walk, x, (x.shape[0], groups, inner, 1))
    if transposed:
        weight = _reshaped(walk, weight, (groups, inner, outer))
    else:
        weight = _reshaped(walk, weight, (groups, outer, inner))
        weight = move(walk.labels, weight, lambda t: t.transpose(1, 2), (groups, inner, outer))
    if inner > 1 and groups > 1:  # all groups stay and lose equally
        x, weight = walk.labels.fixed(x, [1]), walk.labels.fixed(weight, [0])
    elif groups > 1:  # the number of groups is a number of channels
        walk.note_sizes(_reshaped(walk, x, (x.shape[0], groups)))
    result = _reshaped(walk, walk.product(x, weight, [2]), (x.shape[0], groups * outer))
    if isinstance(node.args[2], fx.Node):
        result = walk.consumed(join(walk.labels, result, walk.value(node.args[2])), "scale")
    shape = shape_of(node)
    return replace(_reshaped(walk, result, (*shape[:2], *(1,) * (rank - 2))), shape=shape)


def _reshaped(walk: Walk, value: Value, shape: tuple[int, ...]) -> Value:
    return move(walk.labels, value, lambda t: t.reshape(shape), shape)


# -- normalizations, pooling ----------------------------------------------------------------------


def _scaled(walk: Walk, value: Value, vectors: Sequence[Any], dim: int) -> Value:
    """The value with vectors along ``dim`` joined to it."""
    rank = len(value.shape)
    for vector in vectors:
        if isinstance(vector, fx.Node):
            known = walk.value(vector)
            shape = (1,) * dim + known.shape + (1,) * (rank - dim - len(known.shape))
            value = join(walk.labels, value, _reshaped(walk, known, shape))
    return walk.consumed(value, "scale")


def batch_norm(walk: Walk, node: fx.Node) -> Result:
    """Batch norm in eval mode: weight, bias and running statistics go with the channels."""
    result = _scaled(walk, walk.value(node.args[0]), node.args[1:5], 1)
    return [result, *(Value(shape) for shape in shapes_of(node)[1:])]


def layer_norm(walk: Walk, node: fx.Node) -> Result:
    """Layer norm: weight and bias along the last dimensions."""
    value, normalized = walk.value(node.args[0]), node.args[1]
    assert isinstance(normalized, Sequence)
    result = _scaled(walk, value, node.args[2:4], len(value.shape) - len(normalized))
    walk.note_sizes(reduce(walk.labels, result, range(len(value.shape) - len(normalized))))
    return [result, *(Value(shape) for shape in shapes_of(node)[1:])]


def group_norm(walk: Walk, node: fx.Node) -> Result:
    """Group norm: the number of groups stays and each loses equally."""
    value = walk.value(node.args[0])
    channels, groups = value.shape[1], int(node.args[6])  # type: ignore[arg-type]
    rest = value.shape[2:]
    grouped = _reshaped(walk, value, (value.shape[0], groups, channels // groups, *rest))
    if channels > groups:
        grouped = walk.labels.fixed(grouped, [1])
    else:
        walk.note_sizes(grouped)
    value = _reshaped(walk, grouped, value.shape)
    result = _scaled(walk, value, node.args[1:3], 1)
    return [result, *(Value(shape) for shape in shapes_of(node)[1:])]


def spatial(walk: Walk, node: fx.Node) -> Result:
    """Pooling, resizing: the last dimensions are places in an image."""
    value = walk.value(node.args[0])
    rank = len(value.shape)
    count = 1 if "1d" in _name(node) else 3 if "3d" in _name(node) else 2
    if "upsample" in _name(node):
        count = rank - 2
    return _like(walk, node, range(rank - count, rank))


def shuffle(walk: Walk, node: fx.Node) -> Result:
    """Pixel shuffle: a move of entries."""
    return moving(walk, node)


def unknown(walk: Walk, node: fx.Node) -> Result:
    """Anything else freezes its operands."""
    for one in node.all_input_nodes:
        results = walk.values[one]
        for value in results if isinstance(results, list) else [results]:
            for layer in value.layers:
                walk.labels.freeze(
                    layer.labels, f"{_name(node)} in {walk.module or 'the model'} is not understood"
                )
    shapes = shapes_of(node)
    if _several(node):
        return [Value(shape) for shape in shapes]
    return Value(shapes[0])


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return str(getattr(target, "overloadpacket", target)).removeprefix("aten.")


_BY_RULE: dict[Rule, str] = {
    constant: "full empty new_zeros new_ones new_full new_empty zeros ones scalar_tensor",
    fixed_source: "arange rand randn randperm eye",
    along: "_softmax _log_softmax cumsum cumprod clone _to_copy alias detach lift_fresh_copy tril "
    "triu contiguous full_like zeros_like ones_like empty_like rand_like randn_like "
    "native_dropout",
    sorting: "topk sort",
    reduction: "mean sum amax amin any all prod max min var std var_mean logsumexp",
    norm_of: "linalg_vector_norm",
    picking: "argmax argmin",
    moving: "slice select squeeze unsqueeze repeat flip roll transpose t pixel_shuffle "
    "pixel_unshuffle unfold diagonal",
    viewing: "view _unsafe_view reshape _reshape_copy",
    expanding: "expand",
    permuting: "permute",
    padding: "constant_pad_nd",
    concatenating: "cat",
    splitting: "split split_with_sizes chunk unbind",
    embedding: "embedding",
    indexing: "index",
    selecting: "index_select",
    gathering: "gather",
    product: "mm bmm",
    addmm: "addmm",
    attention: "_scaled_dot_product_flash_attention_for_cpu scaled_dot_product_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math",
    convolution: "convolution",
    batch_norm: "_native_batch_norm_legit_no_training",
    layer_norm: "native_layer_norm",
    group_norm: "native_group_norm",
    spatial: "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d "
    "reflection_pad1d reflection_pad2d replication_pad2d",
}
#: The rule of each operation by its name without overload.
RULES: dict[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
