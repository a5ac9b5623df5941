"""``zoo:ppo-cartpole``: an actor and a critic.

PPO, Schulman et al. 2017: advantages by generalized estimation, a ratio of probabilities that is
clipped, several passes over what was just played. Rates are those of RL Baselines3 Zoo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from edgekit.spec import Array
from edgekit.workload import Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._gym import CART, Best, Scaled, Task, environments, perceptron

__all__ = ["ENTRIES", "workload"]

_TASK = Task("CartPole-v1", "logits", lambda logits: logits.argmax(1), max_drop=5.0)  # 1 %
_ENVIRONMENTS, _STEPS, _ROUNDS, _PASSES = 8, 32, 390, 20
_RATE, _CLIP, _DISCOUNT, _TRACE = 1e-3, 0.2, 0.98, 0.8


class _ActorCritic(nn.Module):
    """Takes observations (n, 4); gives the logits of either action (n, 2), and a value (n,)."""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(CART)
        self.actor = perceptron(4, 64, 64, 2, activation=nn.Tanh)
        self.critic = perceptron(4, 64, 64, 1, activation=nn.Tanh)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = self.scaled(observation)
        return self.actor(scaled), self.critic(scaled).squeeze(1)


@dataclass(frozen=True, slots=True)
class _Played:
    """A few steps of all environments: (steps, environments, ...)."""

    observation: torch.Tensor
    action: torch.Tensor
    log_probability: torch.Tensor
    advantage: torch.Tensor
    wanted: torch.Tensor
    valid: torch.Tensor


def _fit(model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE, eps=1e-5)
    best = Best(partial(_TASK.chosen, model), model, enough=500.0)
    several = environments(_TASK.environment, _ENVIRONMENTS)
    observation, _ = several.reset(seed=0)
    done = np.zeros(_ENVIRONMENTS, bool)
    for round_ in range(_ROUNDS):
        left = 1 - round_ / _ROUNDS
        for group in optimizer.param_groups:
            group["lr"] = _RATE * left
        played, observation, done = _played(model, several, observation, done)
        for _ in range(_PASSES):
            optimizer.zero_grad()
            _loss(model, played, _CLIP * left).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        if round_ > _ROUNDS // 3 and round_ % 10 == 0 and best.judge():
            break
    best.restore()


@torch.no_grad()
def _played(
    model: nn.Module, several: VectorEnv[Array, Array, Array], observation: Array, done: Array
) -> tuple[_Played, Array, Array]:
    """What happens next, the observations after it, and which episodes ended at its last step."""
    columns: list[tuple[torch.Tensor, ...]] = []
    for _ in range(_STEPS):
        logits, value = model(torch.from_numpy(observation))
        action = torch.multinomial(logits.softmax(1), 1)[:, 0]
        after, reward, terminated, truncated, _ = several.step(action.numpy())
        columns.append(
            (
                torch.from_numpy(observation), action, _log_probability(logits, action), value,
                torch.from_numpy(reward), torch.from_numpy(terminated),
                torch.from_numpy(terminated | truncated), torch.from_numpy(~done),
            )
        )  # fmt: skip
        observation, done = after, terminated | truncated
    seen, actions, chances, values, rewards, ends, dones, valid = (
        torch.stack(one) for one in zip(*columns, strict=True)
    )
    last = model(torch.from_numpy(observation))[1]
    advantage = _advantages(rewards, torch.cat([values, last[None]]), ends, dones)
    played = _Played(seen, actions, chances, advantage, advantage + values, valid)
    return played, observation, done


def _advantages(
    rewards: torch.Tensor, values: torch.Tensor, ends: torch.Tensor, dones: torch.Tensor
) -> torch.Tensor:
    """Generalized advantage estimation; an episode that ran out of time would have gone on."""
    advantage = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for step in reversed(range(len(rewards))):
        after = _DISCOUNT * values[step + 1] * ~ends[step]
        surprise = rewards[step] + after - values[step]
        following = surprise + _DISCOUNT * _TRACE * following * ~dones[step]
        advantage[step] = following
    return advantage


def _loss(model: nn.Module, played: _Played, clip: float) -> torch.Tensor:
    valid = played.valid
    logits, value = model(played.observation[valid])
    chance = _log_probability(logits, played.action[valid])
    ratio = torch.exp(chance - played.log_probability[valid])
    advantage = played.advantage[valid]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return 0.5 * nn.functional.mse_loss(value, played.wanted[valid]) - gain.mean()


def _log_probability(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(1).gather(1, action[:, None])[:, 0]


def _around(model: nn.Module) -> Workload:
    return _TASK.workload(_ENTRY.name, _ENTRY.description, model, ("logits", "value"))


_ENTRY = Made(
    name="ppo-cartpole",
    family="control",
    description="PPO, actor and critic, that balances gymnasium's CartPole-v1.",
    bar=450.0,
    source="gymnasium calls CartPole-v1 solved at 475 of at most 500; a random policy has 22",
    build=_ActorCritic,
    make=_around,
    fit=_fit,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
