"""How MuZero learns: episodes played by its own search, and the model unrolled beside them.

That a state which is foreseen is the one that is then seen, is learnt too, as in EfficientZero, Ye
et al. 2021: CartPole's rewards, all one until the end, say little of how a state goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array
from edgekit.workload import Predict
from edgekit.zoo._gym import Best, environments
from edgekit.zoo._mcts import search
from edgekit.zoo._pieces import UNROLLED, Pieces

__all__ = ["Learner", "Planner", "Settings"]

_ENVIRONMENTS, _RATE, _DECAY = 32, 2e-3, 1e-4
_STEPS, _FIRST, _UPDATES, _JUDGED = 2400, 60, 3, 150
#: A long episode needs one action to be taken of two that are visited nearly alike: colder soon.
_TEMPERATURES = (0.1, 1.0), (0.3, 0.25), (1.0, 0.1)


class Planner(nn.Module, ABC):
    """What is learnt: a model that foresees."""

    @abstractmethod
    def represent(self, observation: torch.Tensor) -> torch.Tensor:
        """The states (n, d) that observations mean."""

    @abstractmethod
    def act(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The states after actions (n,), and the rewards (n, 1)."""

    @abstractmethod
    def predict(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the actions and of the categories of value in states."""

    @abstractmethod
    def shares(self, value: torch.Tensor) -> torch.Tensor:
        """Values (n,) as the shares of the two nearest categories (n, categories)."""

    @abstractmethod
    def value(self, observation: torch.Tensor) -> torch.Tensor:
        """The values (n, 1) of what is seen."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The game, the size of the model's states, how it searches, and the discount of a step."""

    environment: str
    state_size: int
    simulations: int
    discount: float


class Learner:
    """Plays and learns in turn.

    Args:
        model: in training.
        predict: the model as it is.
        settings: what it plays and how it searches.
        judge: the mean return of the search with the model as it is.
    """

    def __init__(
        self, model: Planner, predict: Predict, settings: Settings, judge: Callable[[], float]
    ) -> None:
        self._model, self._predict, self._settings = model, predict, settings
        self._best = Best(judge, model, enough=495.0)
        self._drawn = np.random.default_rng(0)
        self._memory = Pieces(settings.discount, _STEPS)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)

    def run(self) -> None:
        """Train to the end; the best weights are kept."""
        several = environments(self._settings.environment, _ENVIRONMENTS)
        observation, _ = several.reset(seed=0)
        begins = np.zeros(_ENVIRONMENTS, bool)
        for step in range(_STEPS):
            policy = self._search(observation)
            action = self._chosen(policy, step / _STEPS)
            after, reward, terminated, truncated, _ = several.step(action)
            self._memory.add(
                observation=observation,
                action=action,
                reward=reward.astype(np.float32),
                policy=policy.astype(np.float32),
                begins=begins,
                goes_on=~terminated,
                cut=truncated,
            )
            observation, begins = after, terminated | truncated
            for group in self._optimizer.param_groups:
                group["lr"] = _RATE * (1 - step / _STEPS)
            for _ in range(_UPDATES if step >= _FIRST else 0):
                self._learn()
            if step > _STEPS // 2 and step % _JUDGED == 0 and self._best.judge():
                break
        self._best.restore()

    def _search(self, observation: Array) -> Array:
        """How often each action was visited (n, actions), as shares."""
        s = self._settings
        visits = search(
            self._predict, observation, s.state_size, s.simulations, s.discount, self._drawn
        )
        shares: Array = visits / visits.sum(1, keepdims=True)
        return shares

    def _chosen(self, policy: Array, progress: float) -> Array:
        """Actions by their visits, colder and colder."""
        temperature = next(t for until, t in _TEMPERATURES if progress < until)
        power = policy ** (1 / temperature)
        share = (power / power.sum(1, keepdims=True)).cumsum(1)
        return np.asarray((self._drawn.random((len(policy), 1)) > share[:, :-1]).sum(1))

    def _learn(self) -> None:
        self._model.train()
        loss = _loss(self._model, self._memory.draw(self._drawn, self._model.value))
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 5.0)
        self._optimizer.step()
        self._model.eval()


def _loss(model: Planner, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of policy, value and reward, at the state that is seen and at those that are foreseen; and
    of these states themselves, which are to be what is then seen.
    """
    state = model.represent(batch["observation"][:, 0])
    loss = torch.zeros(())
    for step in range(UNROLLED + 1):
        # After an episode's end the policy is all zero: nothing to learn. The value is zero, too.
        logits, categories = model.predict(state)
        surprise = -(batch["policy"][:, step] * logits.log_softmax(1)).sum(1)
        wanted = model.shares(batch["wanted"][:, step])
        surprise = surprise - 0.5 * (wanted * categories.log_softmax(1)).sum(1)
        loss = loss + surprise.mean() * (1 if step == 0 else 1 / UNROLLED)
        if step < UNROLLED:
            state, reward = model.act(state, batch["action"][:, step])
            error = (reward[:, 0] - batch["reward"][:, step]) ** 2
            with torch.no_grad():
                seen = model.represent(batch["observation"][:, step + 1])
            missed = ((state - seen) ** 2).sum(1) * batch["playing"][:, step + 1]
            loss = loss + (error + missed).mean() / UNROLLED
            state = (state + state.detach()) / 2  # half the gradient, as in the paper
    return loss
