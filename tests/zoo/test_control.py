from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.zoo import dreamer, ppo_cartpole, sac_pendulum
from edgekit.zoo._gym import play
from edgekit.zoo._replay import Replay
from edgekit.zoo._rssm import _DISCOUNT, _TRACE, _returns


def _right(observation: np.ndarray) -> np.ndarray:
    return np.ones(len(observation), np.int64)


def test_episodes_of_the_same_seed_are_the_same() -> None:
    first, again, other = (play("CartPole-v1", _right, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1][:5], other[1][:5])
    assert first[0].sum() == len(first[1])  # a point for each step, and none after the end


def test_a_replay_keeps_what_counts() -> None:
    memory = Replay()
    valid = np.array([True, False, True])
    for step in range(1000):
        memory.add(valid, np.full((3, 2), float(step)), np.array([1, 2, 3]))
    place, action = memory.draw(4000, np.random.default_rng(0))
    assert set(action.tolist()) == {1, 3}
    assert place.dtype == torch.float32
    assert set(place[:, 0].tolist()) <= set(range(1000))
    assert place[:, 0].mean() == pytest.approx(500, abs=30)


def test_advantages_are_those_of_the_paper() -> None:
    rewards, values = (
        torch.tensor([[1.0], [1.0], [1.0]]),
        torch.tensor([[2.0], [3.0], [4.0], [5.0]]),
    )
    ends = torch.tensor([[False], [True], [False]])
    got = ppo_cartpole._advantages(rewards, values, ends, ends)
    discount, trace = ppo_cartpole._DISCOUNT, ppo_cartpole._TRACE
    last, second = 1 + discount * 5 - 4, 1.0 - 3
    expected = [1 + discount * 3 - 2 + discount * trace * second, second, last]
    torch.testing.assert_close(got[:, 0], torch.tensor(expected))


def test_the_density_of_a_squashed_action_is_right() -> None:
    torch.manual_seed(0)
    actor = sac_pendulum._Actor()
    seen = torch.randn(64, 3)
    action, density = actor.sample(seen)
    features = actor.trunk(actor.scaled(seen))
    normal = torch.distributions.Normal(
        actor.mean(features), actor.log_deviation(features).clamp(-5, 2).exp()
    )
    squashed = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(density, squashed.log_prob(action)[:, 0], atol=1e-3, rtol=1e-3)
    assert (actor(10 * seen).abs() <= 2).all()


def test_imagined_returns_are_those_of_the_paper() -> None:
    rewards, values = torch.tensor([[1.0], [2.0]]), torch.tensor([[9.0], [3.0], [4.0]])
    last = 2 + _DISCOUNT * 4
    first = 1 + _DISCOUNT * ((1 - _TRACE) * 3 + _TRACE * last)
    torch.testing.assert_close(_returns(rewards, values), torch.tensor([[first], [last]]))


def test_the_world_model_remembers() -> None:
    """The same observation after another past is another state."""
    with reference_predict(zoo.load("dreamer-pendulum")) as predict:
        feeds = dreamer._start(np.array([[1.0, 0.0, 0.5]], np.float32))
        first = predict(feeds)
        again = predict({**feeds, **{k: first[v] for k, v in dreamer._STATE.items()}})
    assert not np.allclose(first["next_carried"], again["next_carried"], atol=1e-3)
