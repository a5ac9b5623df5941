"""Sparsity that grows while a model is fine-tuned."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.compress.sparse.gradual import Gradual, choose_masks
from edgekit.compress.sparse.magnitude import Magnitude
from edgekit.compress.sparse.masks import Pattern
from edgekit.compress.sparse.movement import Movement
from edgekit.compress.sparse.wanda import Wanda
from edgekit.compress.sparse.zeros import zero_share


def linear(*values: float) -> nn.Linear:
    layer = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values]))
    return layer


def test_zeros_become_more_and_end_exact() -> None:
    layer = nn.Linear(20, 20)
    grow = Gradual({"a": layer}, Magnitude(), {}, 0.8, across=False)
    shares = []
    for step in range(1, 101):
        with torch.no_grad():
            layer.weight += 0.01  # the optimizer moves zeros, too
        grow(step, 100)
        shares.append(zero_share(layer.weight.detach()))
    assert shares == sorted(shares)
    assert shares[9] == 0.0
    assert len(set(shares)) > 20
    assert shares[-1] == 0.8


def test_a_pattern_ends_exact() -> None:
    layer = nn.Conv2d(8, 4, 3)
    grow = Gradual({"a": layer}, Magnitude(), {}, Pattern(2, 4), across=False)
    for step in range(1, 11):
        grow(step, 10)
    groups = layer.weight.movedim(1, -1).reshape(-1, 4)
    assert bool(((groups != 0).sum(1) == 2).all())


def test_a_weight_that_went_comes_back_as_it_was() -> None:
    layer = linear(1.0, 2.0)
    grow = Gradual({"a": layer}, Magnitude(), {}, 0.5, across=False)
    grow(50, 100)
    assert layer.weight.tolist() == [[1.0, 2.0]]  # half of 2 weights only at full sparsity
    grow(75, 100)
    assert layer.weight.tolist() == [[0.0, 2.0]]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[7.0, 0.5]]))  # 7 is what a masked weight must not become
    grow(75, 100)
    assert layer.weight.tolist() == [[1.0, 0.0]]


def test_movement_adds_up_minus_weight_times_gradient() -> None:
    layer = linear(3.0, 0.1)
    grow = Gradual({"a": layer}, Movement(), {}, 0.5, across=False)
    layer.weight.grad = torch.tensor([[1.0, -1.0]])  # to zero, and away from it
    grow(1, 100)
    grow(75, 100)
    assert layer.weight.tolist() == [torch.tensor([0.0, 0.1]).tolist()]


def test_movement_of_a_weight_that_is_zero_counts() -> None:
    layer = linear(1.0, 1.0)
    grow = Gradual({"a": layer}, Movement(), {}, 0.5, across=False)
    layer.weight.grad = torch.tensor([[1.0, 0.0]])
    grow(75, 100)
    assert layer.weight.tolist() == [[0.0, 1.0]]
    layer.weight.grad = torch.tensor([[-5.0, 0.0]])
    grow(75, 100)
    assert layer.weight.tolist() == [[1.0, 0.0]]


def test_across_layers_the_smaller_layer_loses_more() -> None:
    scores = {"a": torch.ones(1, 2, 2), "b": 2 * torch.ones(1, 2, 2)}
    masks = choose_masks(scores, Magnitude(), 0.5, across=True)
    assert not bool(masks["a"].any())
    assert bool(masks["b"].all())


def test_each_layer_by_itself_goes_as_the_method_compares() -> None:
    scores = {"a": torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])}
    whole = choose_masks(scores, Magnitude(), 0.5, across=False)["a"]
    rows = choose_masks(scores, Wanda(), 0.5, across=False)["a"]
    assert whole.tolist() == [[[False, False], [True, True]]]
    assert rows.tolist() == [[[False, True], [False, True]]]
