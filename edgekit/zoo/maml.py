"""``zoo:maml-glyphs``: a classifier of five new characters, learned from 25 drawings in one step.

Model-Agnostic Meta-Learning (Finn, Abbeel and Levine, 2017): the start is trained so that one step
of gradient descent on a few drawings of any five characters classifies others of them well. The
gradient of that goes through the step, second derivatives included. The size of the step and that
it is one are the paper's for Omniglot with five classes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from edgekit.compress.train.pace import schedule
from edgekit.zoo._adapted import SHOTS, WAYS, adapted
from edgekit.zoo._episodes import Episode, episode, seen

__all__ = ["ENTRIES", "workload"]

_INNER_RATE = 0.4
_RATE, _STEPS, _TASKS = 3e-3, 1600, 3


def _adapt(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), _INNER_RATE)
    functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def _fit(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters())
    model.train()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * schedule(step / _STEPS)
        optimizer.zero_grad()
        for _ in range(_TASKS):
            one = episode(seen(), WAYS, SHOTS, SHOTS, generator)
            (_loss_after_a_step(model, one) / _TASKS).backward()
        optimizer.step()
    model.eval()


def _loss_after_a_step(model: nn.Module, one: Episode) -> torch.Tensor:
    """Of other drawings; with a gradient to the parameters before the step."""
    before = dict(model.named_parameters())
    labels = torch.arange(WAYS).repeat_interleave(one.support.shape[1])
    loss = functional.cross_entropy(model(one.support.flatten(0, 1)), labels)
    gradients = torch.autograd.grad(loss, list(before.values()), create_graph=True)
    after = {
        name: parameter - _INNER_RATE * gradient
        for (name, parameter), gradient in zip(before.items(), gradients, strict=True)
    }
    return functional.cross_entropy(functional_call(model, after, (one.query,)), one.label)


_ENTRY = adapted(
    "maml-glyphs",
    "Classifier of five new characters, adapted from MAML's start by five drawings of each.",
    _fit,
    _adapt,
    bar=0.9,
    source="a quarter of the error of the nearest neighbour on pixels, which has 0.62 right",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
