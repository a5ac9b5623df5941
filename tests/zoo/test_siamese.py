from __future__ import annotations

import numpy as np
import torch

from edgekit.reference import reference_predict
from edgekit.spec import Feeds, Outputs
from edgekit.zoo import siamese


def test_the_distance_is_the_same_both_ways_and_none_to_itself() -> None:
    model = siamese.workload().model
    first, second = torch.rand(2, 5, 1, 28, 28).unbind()
    with torch.no_grad():
        torch.testing.assert_close(model(first, second), model(second, first))
        assert (model(first, first) < 1e-3).all()
        assert (model(first, second) > 1e-2).all()


def test_half_of_the_pairs_are_equal_and_none_shows_an_unseen_digit() -> None:
    _, labels = siamese._learnt()
    first, second, same = siamese._pairs(labels, 300, seed=1)
    np.testing.assert_array_equal(labels[first] == labels[second], same)
    assert same.sum() == 150
    assert set(labels) == set(siamese._SEEN)
    assert not set(siamese._SEEN) & set(siamese._UNSEEN)


def test_contrastive_loss_pulls_equal_ones_and_pushes_others_up_to_the_margin() -> None:
    distance = torch.tensor([0.5, 0.5, 2.0])
    same = torch.tensor([True, False, False])
    torch.testing.assert_close(siamese._contrastive(distance, same), torch.tensor(0.5 / 3))


def test_it_tells_digits_that_it_never_saw_apart_better_than_their_pixels_do() -> None:
    def pixels(feeds: Feeds) -> Outputs:
        apart = (feeds["first"] - feeds["second"]).reshape(len(feeds["first"]), -1)
        return {"distance": np.linalg.norm(apart, axis=1)}

    workload = siamese.workload()
    assert workload.evaluate is not None
    with reference_predict(workload) as predict:
        learnt = workload.evaluate(predict)
    plain = workload.evaluate(pixels)
    assert learnt["unseen_auc"] > plain["unseen_auc"] + 0.1
    assert 1 - learnt["auc"] < (1 - plain["auc"]) / 7
