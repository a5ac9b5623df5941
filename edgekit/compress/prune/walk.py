"""The state of a walk over a graph, and what rules for operations share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx

from edgekit.compress.prune.labels import Axis, Index, Labels, Layer, Value, join, move, reduce

__all__ = [
    "Result",
    "Rule",
    "Size",
    "Walk",
    "argument",
    "dims_of",
    "like",
    "name_of",
    "reshaped",
    "several",
    "shape_of",
    "shapes_of",
    "unknown",
]

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
        module: the module whose code runs the operation at hand.
    """

    labels: Labels = field(default_factory=Labels)
    values: dict[fx.Node, Result] = field(default_factory=dict)
    weights: set[fx.Node] = field(default_factory=set)
    roles: dict[Axis, str] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)
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


def several(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), list | tuple)


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An operation's argument, given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def dims_of(dims: int | Sequence[int] | None, rank: int) -> list[int]:
    if dims is None or dims == []:
        return list(range(rank))
    return [d % rank for d in ([dims] if isinstance(dims, int) else dims)] if rank else []


def like(walk: Walk, node: fx.Node, dims: Sequence[int]) -> Result:
    """Results of the operand's rank that keep its layers off ``dims``."""
    value = walk.value(node.args[0])
    value = walk.labels.fixed(value, [d % len(value.shape) for d in dims])
    results = [replace(value, shape=shape) for shape in shapes_of(node)]
    return results if several(node) else results[0]


def shapes_of(node: fx.Node) -> list[tuple[int, ...]]:
    """The shapes of all results of a node; ``()`` for what is no tensor."""
    values = node.meta.get("val")
    values = values if isinstance(values, list | tuple) else [values]
    return [tuple(int(s) for s in getattr(one, "shape", ())) for one in values]


def unknown(walk: Walk, node: fx.Node) -> Result:
    """Anything else freezes its operands."""
    for one in node.all_input_nodes:
        results = walk.values[one]
        for value in results if isinstance(results, list) else [results]:
            for layer in value.layers:
                walk.labels.freeze(
                    layer.labels,
                    f"{name_of(node)} in {walk.module or 'the model'} is not understood",
                )
    shapes = shapes_of(node)
    if several(node):
        return [Value(shape) for shape in shapes]
    return Value(shapes[0])


def name_of(node: fx.Node) -> str:
    target: Any = node.target
    return str(getattr(target, "overloadpacket", target)).removeprefix("aten.")


def reshaped(walk: Walk, value: Value, shape: tuple[int, ...]) -> Value:
    return move(walk.labels, value, lambda t: t.reshape(shape), shape)
