"""MuZero's search on the host: many trees side by side in numpy, one batched predict a simulation.

Schrittwieser et al. 2020, appendix B: actions are chosen by PUCT with values scaled to [0, 1]
between the least and the largest of a tree.
"""

from __future__ import annotations

import numpy as np

from edgekit.spec import Array, Feeds
from edgekit.workload import Predict

__all__ = ["initial", "recurrent", "search"]

_FIRST, _BASE = 1.25, 19652.0
_NOISE, _CONCENTRATION = 0.1, 0.5


def initial(observation: Array, state_size: int) -> Feeds:
    """What asks the model for the state that observations (n, d) mean."""
    count = len(observation)
    return {
        "observation": observation,
        "state": np.zeros((count, state_size), np.float32),
        "action": np.zeros(count, np.int64),
        "first": np.ones((count, 1), np.float32),
    }


def recurrent(state: Array, action: Array, observation_size: int) -> Feeds:
    """What asks the model for the states after actions (n,) in states (n, d)."""
    count = len(state)
    return {
        "observation": np.zeros((count, observation_size), np.float32),
        "state": state,
        "action": action,
        "first": np.zeros((count, 1), np.float32),
    }


def search(
    predict: Predict,
    observation: Array,
    state_size: int,
    simulations: int,
    discount: float,
    noise: np.random.Generator | None = None,
) -> Array:
    """Look ahead from observations (n, d): how often each action was visited (n, actions).

    Args:
        predict: one call of the model.
        observation: what the roots are.
        state_size: of the model's states.
        simulations: how many nodes each tree gets.
        discount: of a step.
        noise: what explores at the roots, or None.
    """
    made = predict(initial(observation, state_size))
    tree = _Tree(made["next_state"], made["policy"], simulations, discount)
    if noise is not None:
        count, actions = made["policy"].shape
        drawn = noise.dirichlet([_CONCENTRATION] * actions, count)
        tree.prior[:, 0] = (1 - _NOISE) * tree.prior[:, 0] + _NOISE * drawn
    for node in range(1, simulations + 1):
        path = tree.select()
        parent, action, _ = path[-1]
        state = tree.state[tree.rows, parent]
        tree.expand(node, path, predict(recurrent(state, action, observation.shape[1])))
    visits: Array = tree.visits[:, 0]
    return visits


#: The nodes (n,), the actions chosen there (n,), and which trees are still on their way (n,).
_Step = tuple[Array, Array, Array]


class _Tree:
    """One tree a root: by root, node and action, how often and with what worth it was chosen."""

    def __init__(self, state: Array, policy: Array, simulations: int, discount: float) -> None:
        count, actions = policy.shape
        nodes = simulations + 1
        self.rows = np.arange(count)
        self.discount = discount
        self.state = np.zeros((count, nodes, state.shape[1]), np.float32)
        self.visits, self.total, self.prior, self.reward = np.zeros((4, count, nodes, actions))
        self.child = np.full((count, nodes, actions), -1)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.state[:, 0], self.prior[:, 0] = state, _softmax(policy)

    def select(self) -> list[_Step]:
        """The way to a leaf in every tree; the last step has every leaf's parent and action."""
        node = np.zeros(len(self.rows), np.int64)
        action = node.copy()
        moving = np.ones(len(self.rows), bool)
        path: list[_Step] = []
        while moving.any():
            action = np.where(moving, self._best(node), action)
            path.append((node, action, moving))
            after = self.child[self.rows, node, action]
            moving = moving & (after >= 0)
            node = np.where(moving, after, node)
        return path

    def _best(self, node: Array) -> Array:
        visits, total = self.visits[self.rows, node], self.total[self.rows, node]
        mean = total / np.maximum(visits, 1)
        span = np.maximum(self.high - self.low, 1e-9)[:, None]
        worth = np.where(visits > 0, (mean - np.minimum(self.low, 1e9)[:, None]) / span, 0.0)
        count = visits.sum(1, keepdims=True)
        rate = _FIRST + np.log((count + _BASE + 1) / _BASE)
        prior = self.prior[self.rows, node] * np.sqrt(count + 1) / (1 + visits)
        best: Array = (worth + rate * prior).argmax(1)
        return best

    def expand(self, node: int, path: list[_Step], made: dict[str, Array]) -> None:
        """Add a node to every tree, and tell those on the way what it is worth."""
        parent, action, _ = path[-1]
        self.child[self.rows, parent, action] = node
        self.reward[self.rows, parent, action] = made["reward"][:, 0]
        self.state[:, node], self.prior[:, node] = made["next_state"], _softmax(made["policy"])
        worth = made["value"][:, 0].astype(np.float64)
        for place, chosen, moving in reversed(path):
            at = self.rows[moving], place[moving], chosen[moving]
            worth[moving] = self.reward[at] + self.discount * worth[moving]
            self.total[at] += worth[moving]
            self.visits[at] += 1
            mean = self.total[at] / self.visits[at]
            self.low[moving] = np.minimum(self.low[moving], mean)
            self.high[moving] = np.maximum(self.high[moving], mean)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Array = powers / powers.sum(1, keepdims=True)
    return shares
