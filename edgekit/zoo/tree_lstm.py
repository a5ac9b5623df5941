"""``zoo:treelstm-logic``: evaluates nested statements such as ``[all true [odd true false] true]``.

A Child-Sum Tree-LSTM (Tai et al., "Improved Semantic Representations From Tree-Structured Long
Short-Term Memory Networks", 2015) along trees like those of ListOps (Nangia and Bowman, 2018), of
true and false instead of digits: all, any, none, an odd number, or most of two to four members are
true. What a statement is worth does not depend on the order of its members, as Child-Sum assumes.
As in the paper's sentiment trees every node is told its value in training; the score counts roots
alone.

A tree is two arrays: ``symbols`` (n, nodes), int64, 0 for false, 1 for true, 2 + an operator, or 7
for nothing; and ``children`` (n, nodes, 4), int64, the places of each node's members, -1 for none.
Members stand before their statement, the root is last. Any number of nodes will do; trees are at
most 5 statements deep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made

__all__ = ["DEPTH", "ENTRIES", "MEMBERS", "NODES", "TreeLstm", "trees", "workload"]

DEPTH, NODES, MEMBERS = 5, 32, 4
_OPERATORS: tuple[Callable[[list[int]], bool], ...] = (
    all, any, lambda members: not any(members), lambda members: sum(members) % 2 == 1,
    lambda members: 2 * sum(members) > len(members),
)  # fmt: skip
_NOTHING = 2 + len(_OPERATORS)
_SIZE = 32
_BATCH = 64
_TRAINED, _HELD_OUT = 9600, 1000
#: Its symbol, the places of its members, and what it is worth.
_Node: TypeAlias = tuple[int, list[int], int]


class TreeLstm(nn.Module):
    """Symbols (n, nodes) and children (n, nodes, 4) to scores of each node's value (n, nodes, 2).

    All nodes are computed together, as often as trees are deep: after round k those with at most k
    statements below each other are right, and stay so. That is what going from the leaves to the
    root computes, in a graph of fixed depth for any number of nodes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(_NOTHING + 1, 4 * _SIZE)
        self.sum_to_gates = nn.Linear(_SIZE, 3 * _SIZE, bias=False)
        self.child_to_forget = nn.Linear(_SIZE, _SIZE, bias=False)
        self.head = nn.Linear(_SIZE, 2)

    def forward(self, symbols: torch.Tensor, children: torch.Tensor) -> torch.Tensor:
        size = self.sum_to_gates.in_features
        given, forget_given = self.symbols(symbols).split([3 * size, size], dim=-1)
        there = (children >= 0).unsqueeze(-1).to(given.dtype)
        place = children.clamp(min=0).flatten(1).unsqueeze(-1).expand(-1, -1, size)

        def members(states: torch.Tensor) -> torch.Tensor:
            return states.gather(1, place).unflatten(1, (-1, MEMBERS)) * there

        hidden = memory = torch.zeros_like(forget_given)
        for _ in range(DEPTH + 1):
            gates = given + self.sum_to_gates(members(hidden).sum(2))
            forget = members(self.child_to_forget(hidden)) + forget_given.unsqueeze(2)
            kept = (torch.sigmoid(forget) * members(memory)).sum(2)
            enter, leave, update = gates.chunk(3, dim=-1)
            memory = torch.sigmoid(enter) * torch.tanh(update) + kept
            hidden = torch.sigmoid(leave) * torch.tanh(memory)
        logits: torch.Tensor = self.head(hidden)
        return logits


@cache
def trees(count: int, *, held_out: bool) -> Mapping[str, Array]:
    """Always the same ones: ``symbols``, ``children``, and ``values`` (n, nodes), -1 for nothing.

    One tree in five is held out, whenever it is drawn, and is never learnt from.
    """
    drawn = np.random.default_rng(int(held_out))
    symbols = np.full((count, NODES), _NOTHING)
    children = np.full((count, NODES, MEMBERS), -1)
    values = np.full((count, NODES), -1)
    for row in range(count):
        while True:
            nodes: list[_Node] = []
            _grow(drawn, DEPTH, nodes)
            if len(nodes) <= NODES and (crc32(repr(nodes).encode()) % 5 == 0) is held_out:
                break
        first = NODES - len(nodes)
        for place, (symbol, members, value) in enumerate(nodes, first):
            symbols[row, place], values[row, place] = symbol, value
            children[row, place, : len(members)] = [first + member for member in members]
    return {"symbols": symbols, "children": children, "values": values}


def _grow(drawn: np.random.Generator, depth: int, nodes: list[_Node]) -> int:
    """Append a tree of at most so many statements below each other; the place of its root."""
    if depth < DEPTH and (depth == 0 or drawn.random() < 0.55):
        truth = int(drawn.integers(2))
        nodes.append((truth, [], truth))
    else:
        members = [_grow(drawn, depth - 1, nodes) for _ in range(drawn.integers(2, MEMBERS + 1))]
        operator = int(drawn.integers(len(_OPERATORS)))
        value = _OPERATORS[operator]([nodes[member][2] for member in members])
        nodes.append((2 + operator, members, int(value)))
    return len(nodes) - 1


def _given(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: arrays[name] for name in ("symbols", "children")}


def _around(model: nn.Module) -> Workload:
    train = trees(_TRAINED, held_out=False)
    inputs = _given(train)
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in inputs.items()},
        output_names=["logits"],
        dynamic_shapes={name: {0: BATCH, 1: "nodes"} for name in inputs},
        calibration=lambda: in_order({k: x[:512] for k, x in inputs.items()}, _BATCH),
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        labels=["false", "true"],
        training=Training(lambda epoch: shuffled(train, _BATCH, epoch), _loss),
        description=_ENTRY.description,
    )


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits, values = outputs["logits"].flatten(0, 1), batch["values"].flatten()
    return functional.cross_entropy(logits, values, ignore_index=-1)


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many of the held-out trees' roots are right."""
    test = trees(_HELD_OUT, held_out=True)
    found = [predict(feeds)["logits"][:, -1] for feeds in in_order(_given(test), 4 * _BATCH)]
    right = np.concatenate(found).argmax(axis=1) == test["values"][:, -1]
    return {"accuracy": float(right.mean())}


_ENTRY = Made(
    name="treelstm-logic",
    family="recurrent",
    description="Child-Sum Tree-LSTM that evaluates nested statements of logic along their trees.",
    build=TreeLstm,
    make=_around,
    epochs=10,
    rate=1e-2,
    bar=0.98,
    source="nothing is random, so one in fifty; boosted trees on the symbols' counts have 0.848",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
