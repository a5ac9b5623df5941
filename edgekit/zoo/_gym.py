"""What the policies share: episodes of many environments at once, and the workload around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Workload

__all__ = [
    "CART",
    "PENDULUM",
    "Act",
    "Best",
    "Scaled",
    "Task",
    "environments",
    "perceptron",
    "play",
]

#: From many observations (n, ...) to as many actions.
Act = Callable[[Array], Array]

#: Seeds of the episodes that judge, that say when training ends, and that calibrate.
_JUDGING, _CHOOSING, _CALIBRATING = 10_000, 20_000, 30_000
_EPISODES, _CHOSEN_BY, _BATCH, _BATCHES = 50, 20, 64, 8
#: So often something else than the policy acts while calibrating: it is to see mistakes, too.
_STRAY = 0.1

#: How large observations become: a cart ends at 2.4 and a pole at 0.21; a pendulum's is a cosine, a
#: sine, and a speed of at most 8.
CART, PENDULUM = (2.4, 3.0, 0.21, 3.0), (1.0, 1.0, 8.0)


def environments(name: str, count: int) -> VectorEnv[Any, Any, Any]:
    """Many of one kind. The step after an episode's end begins the next one and counts nothing."""
    fast = gymnasium.spec(name).vector_entry_point is not None
    mode = "vector_entry_point" if fast else "sync"
    return gymnasium.make_vec(name, count, vectorization_mode=mode)


def play(name: str, act: Act, count: int, seed: int) -> tuple[Array, Array]:
    """One episode in each of ``count`` environments, side by side.

    Returns:
        The returns (count,), and all observations (steps, ...).
    """
    several = environments(name, count)
    observation, _ = several.reset(seed=seed)
    alive = np.ones(count, bool)
    total = np.zeros(count)
    seen = []
    while alive.any():
        seen.append(observation[alive])
        observation, reward, terminated, truncated, _ = several.step(act(observation))
        total += np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
    several.close()
    return total, np.concatenate(seen)


@dataclass(frozen=True)
class Task:
    """An environment with what is fed to a policy and made of its answer.

    Attributes:
        environment: its name in gymnasium.
        output: the model's output that decides.
        action: from that output (n, ...) to the actions.
        max_drop: how much return a compressed policy may lose.
    """

    environment: str
    output: str
    action: Act
    max_drop: float

    def workload(
        self, name: str, description: str, model: nn.Module, outputs: tuple[str, ...] = ()
    ) -> Workload:
        """The policy with observations to calibrate on and episodes to be judged by."""
        return Workload(
            name=name,
            model=model,
            example_inputs={"observation": torch.from_numpy(self._example)},
            output_names=outputs or (self.output,),
            calibration=lambda: self._calibration(model),
            evaluate=self._evaluate,
            metric=Metric("return", max_drop=self.max_drop),
            description=description,
        )

    def chosen(self, model: nn.Module) -> float:
        """The mean return of episodes that are neither trained on nor judged by."""
        returns, _ = play(self.environment, self._acting(model), _CHOSEN_BY, _CHOOSING)
        return float(returns.mean())

    @cached_property
    def _example(self) -> Array:
        several = environments(self.environment, 2)
        example: Array = several.reset(seed=0)[0].astype(np.float32)
        return example

    def _evaluate(self, predict: Predict) -> dict[str, float]:
        def act(observation: Array) -> Array:
            return self.action(predict({"observation": observation})[self.output])

        returns, _ = play(self.environment, act, _EPISODES, _JUDGING)
        return {"return": float(returns.mean()), "lowest": float(returns.min())}

    def _calibration(self, model: nn.Module) -> Iterator[Feeds]:
        drawn = np.random.default_rng(0)
        greedy, others = self._acting(model), environments(self.environment, _CHOSEN_BY)
        others.action_space.seed(0)

        def act(observation: Array) -> Array:
            chosen, other = greedy(observation), others.action_space.sample()
            stray = drawn.random(len(chosen)) < _STRAY
            return np.where(stray.reshape(-1, *[1] * (chosen.ndim - 1)), other, chosen)

        _, seen = play(self.environment, act, _CHOSEN_BY, _CALIBRATING)
        kept = drawn.permutation(seen)[: _BATCHES * _BATCH]
        for start in range(0, len(kept), _BATCH):
            yield {"observation": kept[start : start + _BATCH]}

    def _acting(self, model: nn.Module) -> Act:
        """The policy in PyTorch; of several outputs the first one decides."""

        def act(observation: Array) -> Array:
            with torch.no_grad():
                made = model(torch.from_numpy(observation))
            return self.action((made if isinstance(made, torch.Tensor) else made[0]).numpy())

        return act


class Best:
    """Keeps the weights of the best policy so far.

    Args:
        judge: the mean return of the policy as it is, in episodes that choose.
        model: the policy in training.
        enough: with that mean return, twice in a row, training may end.
    """

    def __init__(self, judge: Callable[[], float], model: nn.Module, enough: float) -> None:
        self._judge, self._model, self._enough = judge, model, enough
        self._best, self._good = -np.inf, 0
        self._weights = model.state_dict()

    def judge(self) -> bool:
        """Whether training may end."""
        found = self._judge()
        self._good = self._good + 1 if found >= self._enough else 0
        if found >= self._best:
            self._best = found
            self._weights = {k: v.clone() for k, v in self._model.state_dict().items()}
        return self._good == 2

    def restore(self) -> None:
        """Put the best weights back."""
        self._model.load_state_dict(self._weights)


class Scaled(nn.Module):
    """Observations (n, d) divided by how large each becomes: of one size, as int8 wants them."""

    sizes: torch.Tensor

    def __init__(self, sizes: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation / self.sizes


def perceptron(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with activations between."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])
