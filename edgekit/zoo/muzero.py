"""``zoo:muzero-cartpole``: planning with a model of the world that was learnt, not given.

MuZero, Schrittwieser et al. 2020. A representation makes a hidden state of an observation,
dynamics the next one and a reward of a state and an action, a prediction a policy and a value of a
state; a tree search on the host looks ahead with them. The three are one exported model, so that
a search needs one session: ``first`` says which of the first two makes the state.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from edgekit.reference import reference_predict
from edgekit.spec import Array, Feeds, Outputs
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._gym import CART, Scaled, perceptron, play
from edgekit.zoo._mcts import initial, search
from edgekit.zoo._selfplay import Learner, Planner, Settings

__all__ = ["ENTRIES", "workload"]

_STATE, _WIDTH, _ACTIONS = 32, 64, 2
_ENVIRONMENT, _DISCOUNT, _SIMULATIONS = "CartPole-v1", 0.98, 7
#: More while training: what is visited is what is learnt.
_LEARNING = 15
#: Values are categories between 0 and the largest scaled value, h(50) = 6.2.
_LARGEST, _BINS, _EPSILON = 8.0, 21, 1e-3
_EPISODES, _JUDGING, _CALIBRATING = 20, 10_000, 30_000


class MuZero(Planner):
    """Takes observations (n, 4), states (n, 32), actions (n,) int64, and where an observation
    counts instead of a state and an action (n, 1), 1 or 0.

    Gives states (n, 32), rewards (n, 1), logits of actions (n, 2) and values (n, 1).
    """

    bins: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(CART)
        self.register_buffer("bins", torch.linspace(0, _LARGEST, _BINS), persistent=False)
        self.representation = perceptron(4, _WIDTH, _STATE)
        self.dynamics = perceptron(_STATE + _ACTIONS, _WIDTH, _STATE + 1)
        self.prediction = perceptron(_STATE, _WIDTH, _ACTIONS + _BINS)

    def forward(
        self, observation: torch.Tensor, state: torch.Tensor, action: torch.Tensor,
        first: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        after, reward = self.act(state, action)
        made = first * self.represent(observation) + (1 - first) * after
        policy, categories = self.predict(made)
        return made, (1 - first) * reward, policy, self._value(categories)

    def represent(self, observation: torch.Tensor) -> torch.Tensor:
        """See :meth:`Planner.represent`."""
        return _between(self.representation(self.scaled(observation)))

    def act(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Planner.act`."""
        chosen = nn.functional.one_hot(action, _ACTIONS).to(state.dtype)
        given = torch.cat([state, chosen], 1)
        made = self.dynamics(given)
        return _between(state + made[:, :_STATE]), made[:, _STATE:]

    def predict(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Planner.predict`."""
        made = self.prediction(state)
        return made[:, :_ACTIONS], made[:, _ACTIONS:]

    @torch.no_grad()
    def value(self, observation: torch.Tensor) -> torch.Tensor:
        """See :meth:`Planner.value`."""
        return self._value(self.predict(self.represent(observation))[1])

    def _value(self, categories: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(categories, 1)
        return _unscaled((shares * self.bins).sum(1, keepdim=True))

    def shares(self, value: torch.Tensor) -> torch.Tensor:
        """See :meth:`Planner.shares`."""
        scaled = torch.sqrt(value + 1) - 1 + _EPSILON * value
        place = scaled.clamp(0, _LARGEST).unsqueeze(1) * ((_BINS - 1) / _LARGEST)
        index = torch.arange(_BINS, device=value.device)
        return (1 - (place - index).abs()).clamp(min=0)


def _between(state: torch.Tensor) -> torch.Tensor:
    """Scaled to [0, 1], as actions are."""
    low, high = state.amin(1, keepdim=True), state.amax(1, keepdim=True)
    return (state - low) / (high - low + 1e-5)


def _unscaled(value: torch.Tensor) -> torch.Tensor:
    root = torch.sqrt(1 + 4 * _EPSILON * (value + 1 + _EPSILON))
    return ((root - 1) / (2 * _EPSILON)) ** 2 - 1


def _acting(predict: Predict, observation: Array) -> Array:
    """The most visited action; there are no ties, as the simulations are odd."""
    visits = search(predict, observation, _STATE, _SIMULATIONS, _DISCOUNT)
    action: Array = visits.argmax(1)
    return action


def _returns(predict: Predict, count: int, seed: int) -> Array:
    return play(_ENVIRONMENT, lambda seen: _acting(predict, seen), count, seed)[0]


def _evaluate(predict: Predict) -> dict[str, float]:
    returns = _returns(predict, _EPISODES, _JUDGING)
    return {"return": float(returns.mean()), "lowest": float(returns.min())}


def _fit(model: nn.Module) -> None:
    assert isinstance(model, MuZero)
    settings = Settings(_ENVIRONMENT, _STATE, _LEARNING, _DISCOUNT)
    with reference_predict(_around(model)) as predict:
        Learner(model, predict, settings, lambda: _returns(predict, 16, 20_000).mean()).run()


def _around(model: nn.Module) -> Workload:
    made = Workload(
        name="muzero-cartpole",
        model=model,
        example_inputs={
            name: torch.from_numpy(values)
            for name, values in initial(np.zeros((2, 4), np.float32), _STATE).items()
        },
        output_names=["next_state", "reward", "policy", "value"],
        calibration=lambda: _calibration(made),
        evaluate=_evaluate,
        metric=Metric("return", max_drop=5.0),  # 1 %
        description=_ENTRY.description,
    )
    return made


def _calibration(made: Workload) -> Iterator[Feeds]:
    """What the searches ask in states that the policy comes to without one."""
    asked: list[Feeds] = []
    with reference_predict(made) as predict:

        def noting(feeds: Feeds) -> Outputs:
            asked.append(feeds)
            return predict(feeds)

        def act(observation: Array) -> Array:
            best: Array = predict(initial(observation, _STATE))["policy"].argmax(1)
            return best

        _, seen = play(_ENVIRONMENT, act, 4, _CALIBRATING)
        chosen = np.random.default_rng(0).permutation(seen)[:64]
        search(noting, chosen, _STATE, _SIMULATIONS, _DISCOUNT)
    yield from asked


_ENTRY = Made(
    name="muzero-cartpole",
    family="control",
    description="MuZero that balances gymnasium's CartPole-v1; the tree search is on the host.",
    bar=450.0,
    source="gymnasium calls CartPole-v1 solved at 475 of at most 500; a random policy has 22",
    build=MuZero,
    make=_around,
    fit=_fit,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
