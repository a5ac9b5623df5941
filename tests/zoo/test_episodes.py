from __future__ import annotations

import torch

from edgekit.zoo import _episodes


def test_no_character_to_be_judged_on_is_learned_from() -> None:
    learned = {picture.numpy().tobytes() for picture in _episodes.seen()[:, 0]}
    judged = {picture.numpy().tobytes() for picture in _episodes.unseen()[:, 0]}
    assert len(learned) == len(_episodes.seen()) > 900
    assert len(judged) == len(_episodes.unseen()) > 250
    assert not learned & judged


def test_every_picture_shows_something() -> None:
    for pictures in (_episodes.seen(), _episodes.unseen()):
        assert (pictures.amax((2, 3)) > 0.5).all()


def test_an_episode_is_the_same_for_the_same_seed_and_its_labels_fit() -> None:
    first, second = (
        _episodes.episode(_episodes.unseen(), 4, 3, 2, torch.Generator().manual_seed(7))
        for _ in range(2)
    )
    torch.testing.assert_close(first.query, second.query, rtol=0, atol=0)
    assert first.support.shape == (4, 3, 1, 28, 28)
    assert first.query.shape == (8, 1, 28, 28)
    assert first.label.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_nearest_neighbour_on_pixels_is_as_good_as_the_entries_say() -> None:
    def score(shots: int) -> float:
        right = []
        for one in _episodes.held_out():
            known = one.support[:, :shots].flatten(0, 1).flatten(1)
            nearest = torch.cdist(one.query.flatten(1), known).argmin(1)
            right.append(nearest // shots == one.label)
        return torch.cat(right).float().mean().item()

    assert abs(score(5) - 0.59) < 0.01
    assert abs(score(1) - 0.39) < 0.01
