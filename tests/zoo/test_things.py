"""Scenes of coloured shapes: what is held out, and what is said of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgekit.zoo import _things, clip
from edgekit.zoo._things import KINDS, WORDS, caption, crowds, pairs, render, spell


@pytest.mark.parametrize("draw", [pairs, crowds])
def test_every_held_out_scene_has_a_thing_that_training_never_shows(draw) -> None:
    learnt, judged = (
        draw(2000, np.random.default_rng(0), held_out=held_out) for held_out in (False, True)
    )
    known = set(learnt[learnt >= 0].tolist())
    assert len(known) == 48
    assert not any(known.issuperset(row[row >= 0].tolist()) for row in judged)


def test_training_shows_any_two_attributes_of_a_held_out_kind_together() -> None:
    known = [kind for kind, out in zip(KINDS, _things.HELD_OUT, strict=True) if not out]
    for kind in KINDS:
        for which in combinations(range(3), 2):
            assert any(all(one[i] == kind[i] for i in which) for one in known)


def test_a_scene_is_the_same_each_time() -> None:
    first, second = (
        render(pairs(5, generator, held_out=True), generator)
        for generator in (np.random.default_rng(3), np.random.default_rng(3))
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (5, 3, 32, 32)
    assert first.dtype == np.float32


def test_a_caption_begins_with_either_thing() -> None:
    circle, ring = (KINDS.index(kind) for kind in (("small", "red", "circle"),
                                                   ("large", "cyan", "ring")))  # fmt: skip
    assert caption([circle, ring, -1, -1]) == "a small red circle left of a large cyan ring"
    assert caption([circle, -1, ring, -1], turned=True) == (
        "a large cyan ring below a small red circle"
    )


def test_no_two_pairs_of_the_gallery_have_the_same_caption() -> None:
    texts = spell(clip._gallery()["text"], WORDS)
    assert len(set(texts)) == len(texts) == 500
