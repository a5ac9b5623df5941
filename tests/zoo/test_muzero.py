from __future__ import annotations

import numpy as np
import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.spec import Feeds, Outputs
from edgekit.zoo import muzero
from edgekit.zoo._mcts import initial, recurrent, search
from edgekit.zoo._pieces import UNROLLED, Pieces


def _ladder(feeds: Feeds) -> Outputs:
    """A game: one climbs by action 1, and from the second rung on each step is worth a point."""
    rung = np.where(feeds["first"] == 1, 0.0, feeds["state"] + feeds["action"][:, None])
    reward = np.where(feeds["first"] == 1, 0.0, (rung >= 2).astype(float))
    policy = np.zeros((len(rung), 2))
    return {"next_state": rung, "reward": reward, "policy": policy, "value": np.zeros_like(rung)}


def test_the_search_finds_a_reward_that_is_steps_ahead() -> None:
    visits = search(_ladder, np.zeros((3, 1), np.float32), 1, 31, 0.9)
    np.testing.assert_array_equal(visits.argmax(1), 1)
    np.testing.assert_array_equal(visits.sum(1), 31)


def test_trees_side_by_side_do_not_disturb_each_other() -> None:
    observations = np.random.default_rng(0).normal(0, 0.05, (4, 4)).astype(np.float32)
    with reference_predict(zoo.load("muzero-cartpole")) as predict:
        together = search(predict, observations, 32, 7, 0.98)
        alone = [search(predict, one[None], 32, 7, 0.98)[0] for one in observations]
    np.testing.assert_array_equal(together, alone)


def test_one_model_represents_and_foresees() -> None:
    observation = np.zeros((2, 4), np.float32)
    observation[1] = 0.1
    with reference_predict(zoo.load("muzero-cartpole")) as predict:
        root = predict(initial(observation, 32))
        after = predict(recurrent(root["next_state"], np.array([0, 1]), 4))
    np.testing.assert_array_equal(root["reward"], 0)
    np.testing.assert_allclose(after["reward"], 1, atol=0.1)  # CartPole gives one a step
    assert not np.allclose(root["next_state"], after["next_state"], atol=1e-3)


def test_values_survive_their_categories() -> None:
    model = muzero.MuZero()
    values = torch.tensor([0.0, 1.0, 17.3, 49.0])
    scaled = (model.shares(values) * model.bins).sum(1)
    torch.testing.assert_close(muzero._unscaled(scaled), values, atol=0.01, rtol=1e-3)


def test_a_value_is_the_rewards_until_the_end_or_a_guess_after_twenty_of_them() -> None:
    """One environment fails every 10 steps, one is cut at step 30, one goes on."""
    memory = Pieces(0.9, 60)
    for step in range(60):
        memory.add(
            observation=np.array([[0, step], [1, step], [2, step]], np.float32),
            action=np.zeros(3, np.int64),
            reward=np.ones(3, np.float32),
            policy=np.full((3, 2), 0.5, np.float32),
            begins=np.array([step % 11 == 10, step == 31, False]),
            goes_on=np.array([step % 11 != 9, True, True]),
            cut=np.array([False, step == 30, False]),
        )
    drawn = memory.draw(np.random.default_rng(0), lambda seen: torch.full((len(seen), 1), 7.0))
    which, step = drawn["observation"][:, 0].unbind(1)
    fails = which == 0
    left = 10 - step[fails] % 11  # steps until the failure
    wanted = drawn["wanted"][:, 0]
    torch.testing.assert_close(wanted[fails], (1 - 0.9**left) / 0.1)
    lasting = torch.full_like(wanted[~fails], (1 - 0.9**20) / 0.1 + 0.9**20 * 7)
    torch.testing.assert_close(wanted[~fails], lasting)
    playing = left.clamp(max=UNROLLED + 1)
    assert (left > 0).all()  # no piece begins where an episode only begins
    torch.testing.assert_close(drawn["playing"][fails].sum(1), playing)
    torch.testing.assert_close(drawn["policy"][fails].sum((1, 2)), playing)
    cut = step[which == 1]
    assert ((cut < 5) | (cut > 31)).all()  # a piece and the steps ahead are 26
