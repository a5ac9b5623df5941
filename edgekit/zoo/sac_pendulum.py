"""``zoo:sac-pendulum``: a policy of continuous actions that swings a pendulum up.

SAC, Haarnoja et al. 2018: a Gaussian squashed by tanh, two critics of which the lower one counts,
and a temperature that keeps the policy as random as it is to be. Served is its most likely action.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import torch
from torch import nn

from edgekit.workload import Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._gym import PENDULUM, Best, Scaled, Task, environments, perceptron
from edgekit.zoo._replay import Replay

__all__ = ["ENTRIES", "workload"]

_TASK = Task("Pendulum-v1", "torque", lambda torque: torque, max_drop=1.5)  # 1 %
_TORQUE = 2.0
_ENVIRONMENTS, _STEPS, _FIRST = 4, 10_000, 250
_BATCH, _RATE, _DISCOUNT, _FOLLOW = 256, 1e-3, 0.99, 0.005
_WIDTH = 64


class _Actor(nn.Module):
    """Takes observations (n, 3), cosine, sine and speed; gives the torque (n, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(PENDULUM)
        self.trunk = nn.Sequential(perceptron(3, _WIDTH, _WIDTH), nn.ReLU())
        self.mean, self.log_deviation = nn.Linear(_WIDTH, 1), nn.Linear(_WIDTH, 1)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return _TORQUE * torch.tanh(self.mean(self.trunk(self.scaled(observation))))

    def sample(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An action in [-1, 1] (n, 1), and the logarithm of its density (n,)."""
        features = self.trunk(self.scaled(observation))
        mean, log_deviation = self.mean(features), self.log_deviation(features).clamp(-5, 2)
        noise = torch.randn_like(mean)
        action = torch.tanh(mean + log_deviation.exp() * noise)
        density = -0.5 * noise**2 - log_deviation - 0.5 * math.log(2 * math.pi)
        return action, (density - torch.log(1 - action**2 + 1e-6)).sum(1)


class _Critics(nn.Module):
    """Two values (2, n) of an action in a place."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(PENDULUM)
        self.both = nn.ModuleList(perceptron(4, _WIDTH, _WIDTH, 1) for _ in range(2))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        given = torch.cat([self.scaled(observation), action], 1)
        return torch.stack([one(given)[:, 0] for one in self.both])


class _Learner:
    """The networks around the actor, and one step of learning."""

    def __init__(self, actor: _Actor) -> None:
        self.actor = actor
        self.critics = _Critics()
        self.target = copy.deepcopy(self.critics)
        self.log_temperature = torch.zeros((), requires_grad=True)
        self._optimizers = [
            torch.optim.Adam(parameters, lr=_RATE)
            for parameters in (
                self.critics.parameters(), actor.parameters(), [self.log_temperature],
            )
        ]  # fmt: skip

    def step(self, batch: tuple[torch.Tensor, ...]) -> None:
        observation, action, reward, after, terminated = batch
        temperature = self.log_temperature.exp().detach()
        with torch.no_grad():
            following, density = self.actor.sample(after)
            value = self.target(after, following).amin(0) - temperature * density
            wanted = reward + _DISCOUNT * (1 - terminated) * value
        error = ((self.critics(observation, action) - wanted) ** 2).mean(1).sum()
        self._descend(0, error)
        chosen, density = self.actor.sample(observation)
        value = self.critics(observation, chosen).amin(0)
        self._descend(1, (temperature * density - value).mean())
        # The entropy is to be minus the number of actions.
        self._descend(2, -self.log_temperature * (density.detach().mean() - 1))
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, _FOLLOW)

    def _descend(self, index: int, loss: torch.Tensor) -> None:
        self._optimizers[index].zero_grad()
        loss.backward()
        self._optimizers[index].step()


def _fit(model: nn.Module) -> None:
    assert isinstance(model, _Actor)
    drawn = np.random.default_rng(0)
    learner, memory, best = (
        _Learner(model),
        Replay(),
        Best(partial(_TASK.chosen, model), model, enough=-145.0),
    )
    several = environments(_TASK.environment, _ENVIRONMENTS)
    observation, _ = several.reset(seed=0)
    done = np.zeros(_ENVIRONMENTS, bool)
    for step in range(_STEPS):
        if step < _FIRST:
            action = drawn.uniform(-1, 1, (_ENVIRONMENTS, 1)).astype(np.float32)
        else:
            with torch.no_grad():
                action = model.sample(torch.from_numpy(observation))[0].numpy()
        after, reward, terminated, truncated, _ = several.step(_TORQUE * action)
        memory.add(~done, observation, action, reward, after, terminated)
        observation, done = after, terminated | truncated
        if step >= _FIRST:
            learner.step(memory.draw(_BATCH, drawn))
        if step >= _STEPS // 3 and step % 500 == 0 and best.judge():
            break
    best.restore()


def _around(model: nn.Module) -> Workload:
    return _TASK.workload(_ENTRY.name, _ENTRY.description, model)


_ENTRY = Made(
    name="sac-pendulum",
    family="control",
    description="SAC that swings gymnasium's Pendulum-v1 up and holds it.",
    bar=-200.0,
    source="RL Baselines3 Zoo has -150 to -170; a policy that does nothing has -1200",
    build=_Actor,
    make=_around,
    fit=_fit,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
