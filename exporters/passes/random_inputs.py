"""Random inputs that a graph accepts: sizes for its dynamic dimensions, integers in range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from edgekit.spec import Array

__all__ = ["random_inputs"]

#: Sizes to try: of a dimension that comes first in an input, of any other, and how much larger the
#: next name's is. A network that halves its input five times wants the large ones, a model with few
#: positions the small ones, and some have two names for what must have one size.
_SIZES = ((2, 6, 1), (1, 11, 2), (2, 64, 32), (3, 96, 32), (2, 6, 0), (3, 64, 0), (1, 1, 0))

#: Operators whose integers are those that they get.
_MOVES = frozenset(
    {
        "Cast", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip

#: Integers that index nothing are 0 or 1, as in a mask; bytes are pixels.
_MASK, _BYTE = 2, 256


def random_inputs(graph: ir.Graph) -> Iterator[dict[str, Array]]:
    """Feeds worth trying, the likeliest first; only one size where no dimension is dynamic.

    Integers stay within the table that they index. Feeds in which every one is 0 or 1 come last,
    for graphs that restrict them in other ways.

    Raises:
        ValueError: an input is not a numeric tensor of known rank.
    """
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    tables = {str(value.name): _table(value) for value in inputs}
    dynamic = any(not isinstance(dim, int) for value in inputs for dim in _shape(value))
    ranges = [tables, dict.fromkeys(tables, _MASK)]
    for limits in ranges if tables != ranges[1] else ranges[:1]:
        for seed, (first, other, step) in enumerate(_SIZES if dynamic else _SIZES[:1]):
            generator = np.random.default_rng(seed)
            names = _named(inputs, first, other, step)
            yield {
                str(value.name): _random(
                    generator,
                    value,
                    [_size(dim, names, other if axis else first) for axis, dim in enumerate(dims)],
                    limits[str(value.name)],
                )
                for value in inputs
                for dims in [_shape(value)]
            }


def _shape(value: ir.Value) -> ir.Shape:
    if value.shape is None or not isinstance(value.type, ir.TensorType):
        raise ValueError(f"input {value.name!r} is not a tensor of known rank")
    return value.shape


def _named(inputs: Iterable[ir.Value], first: int, other: int, step: int) -> dict[str, int]:
    """A size for each name: ``first`` where it is the first dimension of any input."""
    axes: dict[str, list[int]] = {}
    for value in inputs:
        for axis, dim in enumerate(_shape(value)):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                axes.setdefault(dim.value, []).append(axis)
    others = [name for name, found in axes.items() if 0 not in found]
    sizes = {name: other + step * number for number, name in enumerate(others)}
    return dict.fromkeys(axes, first) | sizes


def _size(dim: int | ir.SymbolicDim, names: Mapping[str, int], unnamed: int) -> int:
    """The size of one dimension; that of ``past + new`` is computed where both are known."""
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return unnamed
    try:
        size = dim.evaluate(names) if dim.free_symbols() <= set(names) else None
    except ValueError:  # not an expression: a name with a space in it, say
        size = None
    return size if isinstance(size, int) else names[dim.value]


def _random(generator: np.random.Generator, value: ir.Value, shape: list[int], limit: int) -> Array:
    try:
        dtype = np.dtype((value.dtype or ir.DataType.UNDEFINED).numpy())
    except TypeError as error:
        raise ValueError(f"input {value.name!r} is not numeric") from error
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0, min(limit, np.iinfo(dtype).max + 1), shape).astype(dtype)
    if dtype.kind not in "fV":  # V: bfloat16 and the other small floats
        raise ValueError(f"input {value.name!r} is not numeric")
    return generator.standard_normal(shape).astype(dtype)


def _table(value: ir.Value) -> int:
    """How many entries the smallest table has that the integers of ``value`` index."""
    sizes, seen, pending = [], set(), [value]
    while pending:
        current = pending.pop()
        for node, position in current.uses():
            if node.op_type in _MOVES and node not in seen:
                seen.add(node)
                pending += node.outputs
            elif node.op_type in {"Gather", "GatherElements"} and position == 1:
                sizes.append(_entries(node))
    unbound = _BYTE if value.dtype == ir.DataType.UINT8 else _MASK
    return min((size for size in sizes if size is not None), default=unbound)


def _entries(lookup: ir.Node) -> int | None:
    """The size of the table that a Gather reads; None when it is computed."""
    table, axis = lookup.inputs[0], lookup.attributes.get_int("axis", 0)
    shape = table.shape if table is not None else None
    size = shape[axis] if shape is not None and shape else None
    return size if isinstance(size, int) and size > 0 else None
