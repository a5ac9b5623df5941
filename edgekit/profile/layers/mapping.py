"""Which operators of the model each executed one computes, and which PyTorch modules these are.

Engines rename, fuse and add operators. What they say of an executed one names some of what it
computes: those are its anchors. The rest is found by the flow of data:

- A product that has no anchor is computed by what is next behind it that has one: fused kernels
  are called after the last thing that they compute.
- Everything else (activations, additions, quantization) is computed by the last executed of what
  it reads from: engines add such things to the kernel before.
- What brings stored or quantized numbers into real ones is part of what reads these.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import cached_property

from edgekit.profile.layers.work import HEAVY
from edgekit.runtimes.timer import Executed, Graph, Operator

__all__ = ["Mapped", "map_modules"]

_READ_WITH = {"DequantizeLinear"}


class Mapped:
    """The outcome, by position in ``executed``.

    Args:
        executed: what the engine ran.
        graph: what it was given.
        notes: the PyTorch module of tensors, for what the graph says nothing of.
    """

    def __init__(
        self, executed: Sequence[Executed], graph: Graph, notes: Mapping[str, str]
    ) -> None:
        self._executed = executed
        self._graph = graph
        self._notes = {**notes, **graph.notes}

    def operators(self, position: int) -> tuple[Operator, ...]:
        """What the executed one computes, in order.

        What is computed from constants alone counts where it is all that there is: then the engine
        does it anew in each inference.
        """
        operators = self._graph.operators
        found = [index for index in range(len(operators)) if self._owner[index] == position]
        lively = [index for index in found if index not in self._constant]
        return tuple(operators[index] for index in lively or found)

    def modules(self, position: int) -> tuple[str, ...]:
        """The modules of what it computes; of what it feeds, or else reads, where that is none."""
        own = self._own[position]
        if own:
            return own
        forward, backward = self._readers, [one.reads for one in self._executed]
        return self._nearest(position, forward) or self._nearest(position, backward)

    def _nearest(self, start: int, edges: Sequence[Sequence[int]]) -> tuple[str, ...]:
        waiting, seen = deque(edges[start]), {start}
        while waiting:
            position = waiting.popleft()
            if position in seen:
                continue
            seen.add(position)
            if self._own[position]:
                return self._own[position]
            waiting.extend(edges[position])
        return ()

    @cached_property
    def _readers(self) -> list[list[int]]:
        readers: list[list[int]] = [[] for _ in self._executed]
        for position, one in enumerate(self._executed):
            for source in one.reads:
                readers[source].append(position)
        return readers

    @cached_property
    def _own(self) -> list[tuple[str, ...]]:
        found: list[dict[str, None]] = [{} for _ in self._executed]
        for index, operator in enumerate(self._graph.operators):
            owner, module = self._owner[index], self._module(operator)
            if owner is not None and module and index not in self._constant:
                found[owner][module] = None
        if not self._graph.operators:  # the engine's words are all there is
            for position, one in enumerate(self._executed):
                named = (self._notes[name] for name in one.computes if name in self._notes)
                found[position] = dict.fromkeys(named)
        return [tuple(modules) for modules in found]

    def _module(self, operator: Operator) -> str:
        return next((self._notes[name] for name in operator.outputs if name in self._notes), "")

    @cached_property
    def _makers(self) -> dict[str, int]:
        operators = enumerate(self._graph.operators)
        return {name: index for index, one in operators for name in one.outputs if name}

    @cached_property
    def _users(self) -> dict[int, list[int]]:
        users: dict[int, list[int]] = defaultdict(list)
        for index, operator in enumerate(self._graph.operators):
            for name in operator.inputs:
                if name in self._makers:
                    users[self._makers[name]].append(index)
        return users

    @cached_property
    def _constant(self) -> set[int]:
        """Operators that read nothing that a call could change."""
        found: set[int] = set()
        fixed = {name for name, tensor in self._graph.tensors.items() if tensor.stored}
        for index, operator in enumerate(self._graph.operators):
            read = [name for name in operator.inputs if name]
            if read and all(name in fixed for name in read):
                found.add(index)
                fixed.update(operator.outputs)
        return found

    @cached_property
    def _owner(self) -> list[int | None]:
        """The position of what computes each operator of the graph."""
        operators = self._graph.operators
        owner = self._anchored()
        for index in reversed(range(len(operators))):
            operator = operators[index]
            late = operator.op in HEAVY or operator.op in _READ_WITH or index in self._constant
            if owner[index] is None and late:
                owner[index] = self._behind(index, owner)
        for index, operator in enumerate(operators):
            if owner[index] is None:
                makers = (self._makers[name] for name in operator.inputs if name in self._makers)
                before = [owner[maker] for maker in makers if maker not in self._constant]
                known = [position for position in before if position is not None]
                owner[index] = max(known) if known else self._behind(index, owner)
        return owner

    def _anchored(self) -> list[int | None]:
        operators = self._graph.operators
        places = {
            name: index for index, one in enumerate(operators) for name in one.outputs if name
        }
        places |= {one.name: index for index, one in enumerate(operators) if one.name}
        owner: list[int | None] = [None] * len(operators)
        for position, one in enumerate(self._executed):
            for name in one.computes:
                index = places.get(name)
                if index is not None and owner[index] is None:
                    owner[index] = position
        return owner

    def _behind(self, index: int, owner: Sequence[int | None]) -> int | None:
        """What computes the nearest of the operators behind it."""
        waiting, seen = deque(self._users[index]), set[int]()
        while waiting:
            user = waiting.popleft()
            if user in seen:
                continue
            seen.add(user)
            if owner[user] is not None:
                return owner[user]
            waiting.extend(self._users[user])
        return None


def map_modules(
    executed: Sequence[Executed], graph: Graph, notes: Mapping[str, str] | None = None
) -> Mapped:
    """See :class:`Mapped`."""
    return Mapped(executed, graph, notes or {})
