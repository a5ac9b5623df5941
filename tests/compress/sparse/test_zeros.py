"""Zeros survive training, whoever trains."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import copied
from edgekit.compress.qat.train import train_quantized
from edgekit.compress.sparse.zeros import hold_zeros, zero_share
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits


def sparse_model(workload: Workload, share: float = 0.5) -> nn.Sequential:
    model = copied(workload)
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        weight = model[0].weight
        weight.masked_fill_(torch.rand(weight.shape) < share, 0.0)
    return model


def train(workload: Workload, model: nn.Module, *, keep: bool = True) -> None:
    finetune(workload, model, FineTune(epochs=1), ModuleContext(), label="t", keep_zeros=keep)


def by_hand(model: nn.Module, epochs: int) -> None:
    """A user's own training: SGD with momentum and weight decay."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(epochs * 3):
        optimizer.zero_grad()
        model(torch.rand(8, 64)).square().mean().backward()
        optimizer.step()


def test_fine_tuning_keeps_zeros_and_trains_the_rest() -> None:
    workload = mlp_digits.workload()
    model = sparse_model(workload)
    before = model[0].weight.detach().clone()
    train(workload, model)
    after = model[0].weight.detach()
    assert torch.equal(before == 0, after == 0)
    assert not torch.equal(before, after)


def test_a_function_of_the_user_keeps_zeros_too() -> None:
    workload = mlp_digits.workload()
    workload.finetune = by_hand
    model = sparse_model(workload)
    before = model[0].weight.detach().clone()
    train(workload, model)
    assert torch.equal(before == 0, model[0].weight == 0)
    assert not torch.equal(before, model[0].weight)


def test_quantization_aware_training_keeps_zeros() -> None:
    workload = mlp_digits.workload()
    workload.model = sparse_model(workload)
    model, _ = train_quantized(workload, 1)
    assert isinstance(model, nn.Sequential)
    assert bool((model[0].weight[workload.model[0].weight == 0] == 0).all())


def test_few_zeros_a_bias_and_a_weight_that_is_all_zero_are_trained() -> None:
    workload = mlp_digits.workload()
    model = sparse_model(workload, share=0.05)
    with torch.no_grad():
        model[2].bias.zero_()
        model[4].weight.zero_()
    train(workload, model)
    assert zero_share(model[0].weight.detach()) < 0.01
    assert bool(model[2].bias.any())
    assert zero_share(model[4].weight.detach()) < 0.1


def test_it_can_be_switched_off() -> None:
    workload = mlp_digits.workload()
    model = sparse_model(workload)
    train(workload, model, keep=False)
    assert zero_share(model[0].weight.detach()) < 0.1


def test_nothing_is_left_on_the_parameters_and_frozen_ones_are_no_problem() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight[0] = 0.0
    model[0].weight.requires_grad_(False)
    with hold_zeros(model):
        pass
    model[0].weight.requires_grad_(True)
    with hold_zeros(model):
        pass
    model(torch.ones(1, 4)).sum().backward()
    assert model[0].weight.grad is not None
    assert bool(model[0].weight.grad.all())


def test_an_empty_tensor_has_no_zeros() -> None:
    assert zero_share(torch.zeros(0, 3)) == 0.0
