"""Which entry of which dimension goes with which: labels in one union-find.

Every tensor of a graph is given *layers*. A layer is an int64 array that broadcasts to the tensor's
shape; it names, for each entry of the tensor, the unit that the entry belongs to. An entry goes
when the unit of any of its layers goes. A convolution's activation ``(N, C, H, W)`` has one layer
of shape ``(1, C, 1, 1)``, its weight has one for its outputs and one for its inputs, and a hidden
size viewed as ``(heads, head_dim)`` has one that varies along both, until some operation decides
whether heads or entries of heads are the units. A dimension along which no layer varies is static.

Three primitives are enough for most operations: :func:`join` (broadcasting, entry by entry),
:func:`reduce` (a sum over dimensions), and :func:`move` (anything that only moves entries, which
is run on the labels themselves). A product of matrices is a join and a reduce.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Axis", "Index", "Labels", "Layer", "Value", "join", "move", "reduce"]

Index = NDArray[np.int64]
#: A parameter's qualified name and one of its axes.
Axis = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One assignment of a tensor's entries to units.

    Attributes:
        labels: int64, of the tensor's rank; 1 along every dimension that it does not vary along.
        origins: the axes of parameters that it comes from, while nothing consumed them.
    """

    labels: Index
    origins: frozenset[Axis] = frozenset()

    @property
    def support(self) -> frozenset[int]:
        """The dimensions that it varies along."""
        return frozenset(d for d, size in enumerate(self.labels.shape) if size > 1)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What is known of a tensor.

    Attributes:
        shape: its sizes.
        layers: never two that vary along the same dimension.
        wild: dimensions of equal entries (a broadcast, a constant): they fit any other width.
    """

    shape: tuple[int, ...]
    layers: tuple[Layer, ...] = ()
    wild: frozenset[int] = frozenset()


@dataclass(slots=True)
class Labels:
    """A union-find over labels; label 0 is never removed.

    Attributes:
        reasons: why a label is frozen, by its root.
        where: what is going on, for the reasons: an operation and its module.
    """

    reasons: dict[int, str] = field(default_factory=lambda: {0: "it is padding"})
    where: str = ""
    _parent: Index = field(default_factory=lambda: np.zeros(1, np.int64))

    def fresh(self, count: int) -> Index:
        """Labels that nothing has yet, shape ``(count,)``."""
        new = np.arange(len(self._parent), len(self._parent) + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, new])
        return new

    def find(self, labels: Index) -> Index:
        """The roots of labels, same shape."""
        roots = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels] = roots
        return roots

    def live(self, labels: Index) -> Index:
        """The roots, with 0 for whatever is frozen."""
        roots = self.find(labels)
        if not self.reasons:
            return roots
        return np.where(np.isin(roots, list(self.reasons)), 0, roots)

    def unite(self, left: Index, right: Index) -> None:
        """Make entries of two arrays, broadcast against each other, the same units."""
        pairs = np.stack(
            [a.ravel() for a in np.broadcast_arrays(self.find(left), self.find(right))]
        )
        pairs = pairs[:, pairs[0] != pairs[1]]
        for one, other in np.unique(pairs, axis=1).T:
            self._unite(int(one), int(other))

    def _unite(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        if first == second:
            return
        if first in self.reasons or second in self.reasons:
            # Frozen ones are left apart: each keeps its reason, and label 0 names no unit.
            reason = self.reasons.get(first) or self.reasons[second]
            self.reasons.setdefault(first, reason)
            self.reasons.setdefault(second, reason)
            return
        self._parent[second] = first

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            label = int(self._parent[label])
        return label

    def freeze(self, labels: Index, why: str) -> None:
        """Say that these units can never be removed."""
        for root in np.unique(self.find(labels)):
            self.reasons.setdefault(int(root), why)

    def settle(self, layers: Iterable[Layer]) -> tuple[Layer, ...]:
        """Layers with roots for labels, without those that vary no more or are frozen."""
        settled = (replace(one, labels=squeezed(self.live(one.labels))) for one in layers)
        return tuple(one for one in settled if one.support)

    def fix(self, layer: Layer, dim: int) -> None:
        """See that ``layer`` does not vary along ``dim``.

        Where it varies along others too, its units become whole slices along ``dim``; otherwise
        they are frozen.
        """
        if dim not in layer.support:
            return
        if len(layer.support) == 1:
            self.freeze(layer.labels, f"its size is fixed by {self.where}")
        else:
            self.unite(layer.labels.take([0], axis=dim), layer.labels)

    def fixed(self, value: Value, dims: Iterable[int]) -> Value:
        """The value after :meth:`fix` of all its layers along ``dims``."""
        for dim in dims:
            for layer in value.layers:
                self.fix(layer, dim)
            value = replace(value, layers=self.settle(value.layers))
        return value


def squeezed(labels: Index) -> Index:
    """Labels with size 1 along each dimension that they do not vary along."""
    for dim, size in enumerate(labels.shape):
        if size > 1:
            first = labels.take([0], axis=dim)
            if np.array_equal(np.broadcast_to(first, labels.shape), labels):
                labels = first
    return labels


def join(labels: Labels, left: Value, right: Value) -> Value:
    """The result of an operation entry by entry on two tensors that broadcast."""
    rank = max(len(left.shape), len(right.shape))
    left, right = _ranked(labels, left, rank), _ranked(labels, right, rank)
    left, right = _fit(labels, left, right), _fit(labels, right, left)
    shape = np.broadcast_shapes(left.shape, right.shape)
    layers = list(left.layers)
    for layer in right.layers:
        merged = layer
        while True:
            met = next((one for one in layers if one.support & merged.support), None)
            if met is None:
                break
            layers.remove(met)
            labels.unite(met.labels, merged.labels)
            wide, _ = np.broadcast_arrays(met.labels, merged.labels)
            merged = Layer(squeezed(labels.live(wide)), met.origins | merged.origins)
            layers = list(labels.settle(layers))
        layers.append(merged)
    wild = frozenset(
        d
        for d in range(rank)
        if (left.shape[d] == 1 or d in left.wild) and (right.shape[d] == 1 or d in right.wild)
    )
    return Value(tuple(shape), labels.settle(layers), wild)


def _fit(labels: Labels, value: Value, other: Value) -> Value:
    """The value, made static along each dimension in which ``other`` is."""
    varies = frozenset(d for layer in other.layers for d in layer.support)
    fixed = [
        d
        for d, size in enumerate(other.shape)
        if size > 1 and d not in varies and d not in other.wild
    ]
    return labels.fixed(value, fixed)


def _ranked(labels: Labels, value: Value, rank: int) -> Value:
    """The value with leading dimensions of size 1, settled."""
    more = rank - len(value.shape)
    layers = (
        replace(layer, labels=layer.labels.reshape((1,) * more + layer.labels.shape))
        for layer in value.layers
    )
    wild = frozenset(d + more for d in value.wild)
    return Value((1,) * more + value.shape, labels.settle(layers), wild)


def reduce(labels: Labels, value: Value, dims: Sequence[int], *, keep: bool = False) -> Value:
    """The result of a sum over ``dims``, which stay with size 1 if ``keep``."""
    gone = {d % len(value.shape) for d in dims} if value.shape else set()
    layers = []
    for layer in labels.settle(value.layers):
        if layer.support <= gone:
            continue
        for dim in gone & layer.support:
            labels.unite(layer.labels.take([0], axis=dim), layer.labels)
            layer = replace(layer, labels=layer.labels.take([0], axis=dim))  # noqa: PLW2901
        layers.append(layer)
    kept = tuple(d for d in range(len(value.shape)) if keep or d not in gone)
    shape = tuple(1 if d in gone else value.shape[d] for d in kept)
    if not keep:
        layers = [
            replace(one, labels=one.labels.reshape([one.labels.shape[d] for d in kept]))
            for one in layers
        ]
    wild = frozenset(new for new, d in enumerate(kept) if d in value.wild)
    return Value(shape, labels.settle(layers), wild)


def move(
    labels: Labels,
    value: Value,
    operation: Callable[[torch.Tensor], torch.Tensor],
    shape: Sequence[int],
) -> Value:
    """The result of an operation that only moves, copies, drops or pads entries.

    Args:
        labels: the union-find.
        value: the operand.
        operation: run on the labels, an int64 tensor of the operand's shape.
        shape: the result's shape.
    """
    layers: list[Layer] = []
    for layer in labels.settle(value.layers):
        moved = operation(torch.from_numpy(layer.labels).expand(value.shape))
        new = replace(layer, labels=squeezed(moved.expand(tuple(shape)).numpy()))
        if any(new.support & one.support for one in layers):
            # Two dimensions that both vary became one: the outer one keeps its units.
            labels.freeze(new.labels, f"it is merged with another dimension by {labels.where}")
        else:
            layers.append(new)
    all_wild = len(value.wild) == len(value.shape)
    wild = frozenset(range(len(shape))) if all_wild else frozenset()
    return Value(tuple(shape), labels.settle(layers), wild)
