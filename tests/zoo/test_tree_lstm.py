"""All nodes at once, in rounds, are what going from the leaves to the root gives."""

from __future__ import annotations

import numpy as np
import torch

from edgekit import zoo
from edgekit.zoo.tree_lstm import DEPTH, NODES, TreeLstm, trees


def test_rounds_are_the_recursion_of_the_paper() -> None:
    model = zoo.load("treelstm-logic").model
    assert isinstance(model, TreeLstm)
    data = trees(50, held_out=True)
    symbols, children = (torch.from_numpy(data[name]) for name in ("symbols", "children"))
    with torch.no_grad():
        found = model(symbols, children)[:, -1]
        wanted = torch.stack(
            [_recursive(model, *tree)[0] for tree in zip(symbols, children, strict=True)]
        )
        torch.testing.assert_close(found, model.head(wanted), atol=1e-4, rtol=1e-4)


def _recursive(
    model: TreeLstm, symbols: torch.Tensor, children: torch.Tensor, node: int = NODES - 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 2 to 8 of Tai et al. for one node; its hidden state and its memory."""
    below = [_recursive(model, symbols, children, int(at)) for at in children[node] if at >= 0]
    *given, forget_given = model.symbols(symbols[node]).chunk(4)
    total = sum((hidden for hidden, _ in below), torch.zeros_like(forget_given))
    summed = model.sum_to_gates(total).chunk(3)
    enter, leave, update = (a + b for a, b in zip(given, summed, strict=True))
    memory = torch.sigmoid(enter) * torch.tanh(update)
    for hidden, kept in below:
        memory = memory + torch.sigmoid(forget_given + model.child_to_forget(hidden)) * kept
    return torch.sigmoid(leave) * torch.tanh(memory), memory


def test_trees_are_in_topological_order_and_not_too_deep() -> None:
    data = trees(300, held_out=False)
    depth = np.zeros(data["symbols"].shape, int)
    for node in range(NODES):
        below = data["children"][:, node]
        assert (below < node).all()
        deepest = np.where(below >= 0, np.take_along_axis(depth, below.clip(0), 1) + 1, 0)
        depth[:, node] = deepest.max(axis=1)
    assert depth.max() == DEPTH


def test_any_number_of_nodes_will_do() -> None:
    model = zoo.load("treelstm-logic").model
    symbols = torch.tensor([[1, 0, 1, 6]])  # most of true, false, true
    children = torch.full((1, 4, 4), -1)
    children[0, -1, :3] = torch.arange(3)
    with torch.no_grad():
        assert model(symbols, children)[0, -1].argmax() == 1


def test_no_tree_is_both_learnt_from_and_held_out() -> None:
    learnt, held_out = (_told(held_out=one) for one in (False, True))
    assert learnt.isdisjoint(held_out)


def _told(*, held_out: bool) -> set[bytes]:
    data = trees(2000, held_out=held_out)
    pairs = zip(data["symbols"], data["children"], strict=True)
    return {symbols.tobytes() + children.tobytes() for symbols, children in pairs}
