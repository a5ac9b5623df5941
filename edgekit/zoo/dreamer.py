"""``zoo:dreamer-pendulum``: an actor that learnt in the imagination of a world model.

Dreamer, Hafner et al. 2020, from vectors. What is served is one step: it remembers (the state of
the recurrent world model, and its last action), takes in what is seen, and acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import nn

from edgekit.reference import reference_predict
from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._gym import PENDULUM, Best, Scaled, environments, perceptron
from edgekit.zoo._rssm import CARRIED, RANDOM, Dreaming, WorldModel

__all__ = ["ENTRIES", "workload"]

_ENVIRONMENT, _SEEN, _TORQUE, _LENGTH = "Pendulum-v1", 3, 2.0, 200
#: Rewards are divided by that: about 1 at most.
_REWARD = 10.0
_EPISODES, _JUDGING, _CHOOSING, _CALIBRATING = 50, 10_000, 20_000, 30_000
_PLAYED, _ROUNDS, _UPDATES, _BATCH, _PIECE = 8, 22, 50, 24, 16
_ENOUGH, _STRAY = -155.0, 0.3


class _Dreamer(nn.Module):
    """Takes observations (n, 3), the actions before (n, 1) in [-1, 1], and the carried (n, 64)
    and the random part (n, 16) of the states before; zeros at an episode's beginning.

    Gives actions (n, 1), and the parts of the states now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(PENDULUM)
        self.world = WorldModel(_SEEN, 1)
        self.actor = perceptron(CARRIED + RANDOM, 64, 64, 2, activation=nn.ELU)

    def forward(
        self, observation: torch.Tensor, before: torch.Tensor, carried: torch.Tensor,
        random: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        now = self.world.carried((carried, random), before)
        mean, _ = self.world.posterior(torch.cat([now, self.scaled(observation)], 1)).chunk(2, 1)
        action = torch.tanh(self.actor(torch.cat([now, mean], 1))[:, :1])
        return action, now, mean


def _start(observation: Array) -> Feeds:
    sizes = {"before": 1, "carried": CARRIED, "random": RANDOM}
    zeros = {k: np.zeros((len(observation), size), np.float32) for k, size in sizes.items()}
    return {"observation": observation.astype(np.float32), **zeros}


_STATE = {"before": "action", "carried": "next_carried", "random": "next_random"}


def _play(
    predict: Predict, count: int, seed: int, stray: float = 0.0
) -> Iterator[tuple[Feeds, Array, Array]]:
    """The calls of ``count`` episodes side by side, with the actions done and the rewards."""
    several = environments(_ENVIRONMENT, count)
    drawn = np.random.default_rng(seed)
    feeds = _start(several.reset(seed=seed)[0])
    for _ in range(_LENGTH):
        made = predict(feeds)
        noise = drawn.normal(0, stray, (count, 1)) if stray else 0.0
        action = np.clip(made["action"] + noise, -1, 1).astype(np.float32)
        observation, reward, *_ = several.step(_TORQUE * action)
        yield feeds, action, reward
        feeds = {"observation": observation, **{k: made[v] for k, v in _STATE.items()}}
        feeds["before"] = action
    several.close()


def _returns(predict: Predict, count: int, seed: int) -> Array:
    total: Array = np.sum([reward for _, _, reward in _play(predict, count, seed)], 0)
    return total


def _evaluate(predict: Predict) -> dict[str, float]:
    returns = _returns(predict, _EPISODES, _JUDGING)
    return {"return": float(returns.mean()), "lowest": float(returns.min())}


def _calibration(made: Workload) -> Iterator[Feeds]:
    with reference_predict(made) as predict:
        for step, (feeds, _, _) in enumerate(_play(predict, 16, _CALIBRATING, _STRAY)):
            if step % 5 == 0:
                yield feeds


def _pieces(
    played: list[tuple[Array, Array, Array]], drawn: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pieces of episodes: what is seen, the action before it, and the reward (n, steps, ...)."""
    columns = [np.concatenate(one) for one in zip(*played, strict=True)]
    episode = drawn.integers(0, len(columns[0]), _BATCH)[:, None]
    steps = drawn.integers(0, _LENGTH - _PIECE + 1, _BATCH)[:, None] + np.arange(_PIECE)
    seen, before, reward = (torch.from_numpy(column[episode, steps]) for column in columns)
    return seen, before, reward


def _episodes(predict: Predict, seed: int, stray: float) -> tuple[Array, Array, Array]:
    """Scaled observations, the actions before them and the rewards of these: (n, steps, ...)."""
    calls = list(_play(predict, _PLAYED, seed, stray))
    seen = np.stack([feeds["observation"] for feeds, _, _ in calls], 1)
    before = np.stack([feeds["before"] for feeds, _, _ in calls], 1)
    reward = np.stack([reward for _, _, reward in calls], 1)[..., None] / _REWARD
    after = np.concatenate([np.zeros_like(reward[:, :1]), reward[:, :-1]], 1)
    return (seen / np.array(PENDULUM, np.float32)), before, after.astype(np.float32)


def _fit(model: nn.Module) -> None:
    assert isinstance(model, _Dreamer)
    drawn, dreaming = np.random.default_rng(0), Dreaming(model.world, model.actor)
    played: list[tuple[Array, Array, Array]] = []
    with reference_predict(_around(model)) as predict:
        best = Best(lambda: _returns(predict, 20, _CHOOSING).mean(), model, _ENOUGH)
        for round_ in range(_ROUNDS):
            played.append(_episodes(predict, 100 * round_, 1.0 if round_ == 0 else _STRAY))
            for _ in range(_UPDATES):
                dreaming.step(_pieces(played, drawn), 1 - round_ / _ROUNDS)
            if best.judge():
                break
    best.restore()


@cache
def _example() -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in _start(np.eye(2, 3, dtype=np.float32)).items()}


def _around(model: nn.Module) -> Workload:
    made = Workload(
        name="dreamer-pendulum",
        model=model,
        example_inputs=_example(),
        output_names=["action", "next_carried", "next_random"],
        state=_STATE,
        calibration=lambda: _calibration(made),
        evaluate=_evaluate,
        metric=Metric("return", max_drop=1.5),  # 1 %
        description=_ENTRY.description,
    )
    return made


_ENTRY = Made(
    name="dreamer-pendulum",
    family="control",
    description="Dreamer, an actor from a learnt world model, swings gymnasium's Pendulum-v1 up.",
    bar=-200.0,
    source="as for SAC, which RL Baselines3 Zoo has at -150 to -170; doing nothing has -1200",
    build=_Dreamer,
    make=_around,
    fit=_fit,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
