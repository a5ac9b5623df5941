"""Inputs unlike the data: other values, other sizes, each still what the model takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.extremes import VALUES, extreme_inputs

IMAGE = {"image": np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)}
TOKENS = {
    "ids": np.arange(6, dtype=np.int64)[None],
    "scale": np.ones((1, 6), np.float32),
}
AXES = {"ids": {0: "batch", 1: "sequence"}, "scale": {0: "batch", 1: "sequence"}}


def test_floating_point_values_are_replaced() -> None:
    made = extreme_inputs(IMAGE, {})
    assert list(made) == list(VALUES)
    assert all(feeds["image"].dtype == np.float32 for feeds in made.values())
    assert not made["zeros"]["image"].any()
    assert np.abs(made["large"]["image"]).max() == pytest.approx(100 * np.abs(IMAGE["image"]).max())
    denormal = made["denormal"]["image"]
    assert (denormal > 0).all()
    assert (denormal < np.finfo(np.float32).tiny).all()
    assert not np.array_equal(made["random"]["image"], IMAGE["image"])


def test_integers_stay_what_they_are() -> None:
    made = extreme_inputs(TOKENS, {})
    assert all(np.array_equal(feeds["ids"], TOKENS["ids"]) for feeds in made.values())
    assert extreme_inputs({"ids": TOKENS["ids"]}, {}) == {}


def test_every_dynamic_dimension_is_shortest_and_longest_once() -> None:
    made = extreme_inputs(TOKENS, AXES)
    shapes = {kind: feeds["ids"].shape for kind, feeds in made.items() if kind not in VALUES}
    assert shapes == {
        "batch 1": (1, 6),
        "batch 8": (8, 6),
        "sequence 1": (1, 1),
        "sequence 12": (1, 12),
    }
    assert made["sequence 12"]["scale"].shape == (1, 12)
    np.testing.assert_array_equal(made["sequence 12"]["ids"][0, 6:], TOKENS["ids"][0])
