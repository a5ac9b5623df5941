"""``zoo:dqn-cartpole`` and ``zoo:double-dqn-cartpole``: learnt values of actions.

DQN, Mnih et al. 2015: Q-learning with a replay memory and a target network that follows in steps.
Double DQN, van Hasselt et al. 2016: the network in training chooses the next action, the target
network says what it is worth. Rates are those of RL Baselines3 Zoo.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array
from edgekit.workload import Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._gym import CART, Best, Scaled, Task, environments, perceptron
from edgekit.zoo._replay import Replay

__all__ = ["ENTRIES", "workload"]

_TASK = Task("CartPole-v1", "values", lambda values: values.argmax(1), max_drop=5.0)  # 1 %
_ENVIRONMENTS, _STEPS, _FIRST = 8, 7500, 125
_UPDATES, _BATCH, _RATE, _DISCOUNT, _FOLLOW = 4, 64, 1e-3, 0.99, 128
_EXPLORED, _STRAY = 0.16, 0.04


class _Values(nn.Module):
    """Takes observations (n, 4); gives the value of either action (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(CART)
        self.layers = perceptron(4, 128, 128, 2)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.layers(self.scaled(observation))
        return values


def _fit(model: nn.Module, *, double: bool) -> None:
    drawn = np.random.default_rng(0)
    target = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    memory, best = Replay(), Best(partial(_TASK.chosen, model), model, enough=500.0)
    several = environments(_TASK.environment, _ENVIRONMENTS)
    observation, _ = several.reset(seed=0)
    done = np.zeros(_ENVIRONMENTS, bool)
    for step in range(_STEPS):
        stray = max(_STRAY, 1 - step / (_EXPLORED * _STEPS))
        action = _action(model, observation, stray, drawn)
        after, reward, terminated, truncated, _ = several.step(action)
        memory.add(~done, observation, action, reward, after, terminated)
        observation, done = after, terminated | truncated
        if step < _FIRST:
            continue
        for update in range(_UPDATES):
            if (step * _UPDATES + update) % _FOLLOW == 0:
                target.load_state_dict(model.state_dict())
            loss = _loss(model, target, memory.draw(_BATCH, drawn), double=double)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        if step > _STEPS // 4 and step % 250 == 0 and best.judge():
            break
    best.restore()


def _action(
    model: nn.Module, observation: Array, stray: float, drawn: np.random.Generator
) -> Array:
    with torch.no_grad():
        greedy = model(torch.from_numpy(observation)).argmax(1).numpy()
    chance = drawn.random(len(greedy)) < stray
    return np.where(chance, drawn.integers(0, 2, len(greedy)), greedy)


def _loss(
    model: nn.Module, target: nn.Module, batch: tuple[torch.Tensor, ...], *, double: bool
) -> torch.Tensor:
    """Huber's, between a value and the reward with the discounted value after it."""
    observation, action, reward, after, terminated = batch
    with torch.no_grad():
        values = target(after)
        chosen = (model(after) if double else values).argmax(1, keepdim=True)
        wanted = reward + _DISCOUNT * (1 - terminated) * values.gather(1, chosen)[:, 0]
    value = model(observation).gather(1, action[:, None])[:, 0]
    return nn.functional.smooth_l1_loss(value, wanted)


def _around(model: nn.Module, name: str, description: str) -> Workload:
    return _TASK.workload(name, description, model)


def _entry(name: str, description: str, *, double: bool) -> Made:
    return Made(
        name=name,
        family="control",
        description=description,
        bar=450.0,
        source="gymnasium calls CartPole-v1 solved at 475 of at most 500; a random policy has 22",
        build=_Values,
        make=partial(_around, name=name, description=description),
        fit=partial(_fit, double=double),
    )


_ENTRY = _entry("dqn-cartpole", "DQN that balances gymnasium's CartPole-v1.", double=False)
_DOUBLE = _entry(
    "double-dqn-cartpole", "Double DQN that balances gymnasium's CartPole-v1.", double=True
)
ENTRIES = (_ENTRY, _DOUBLE)
workload = _ENTRY.workload
