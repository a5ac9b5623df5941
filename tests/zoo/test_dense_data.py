"""What generated pictures say of themselves is what is in them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from edgekit.zoo._cells import pictures
from edgekit.zoo._figures import SIDE, figures
from edgekit.zoo._lines import edits, lines, padded
from edgekit.zoo._scenes import Layout, scenes
from edgekit.zoo._shapes import SHAPES, clouds
from edgekit.zoo.crnn import decode


def test_the_strokes_of_a_scene_lie_in_its_boxes() -> None:
    made = scenes(20, Layout(), seed=1, held_out=False)
    for classes, boxes, digits in zip(
        made.classes, made.boxes.astype(int), made.digits, strict=True
    ):
        for (left, top, right, bottom), digit in zip(boxes, digits, strict=True):
            if digit >= 0:
                assert (classes[top:bottom, left:right] == digit + 1).sum() > 5
        assert set(np.unique(classes)) == {0, *(digits[digits >= 0] + 1)}


def test_figures_are_bright_at_their_joints() -> None:
    made = figures(20, seed=1, held_out=True)
    assert made["joints"].min() > 0
    assert made["joints"].max() < SIDE - 1
    for image, joints in zip(made["image"][:, 0], made["joints"].round().astype(int), strict=True):
        nearby = maximum_filter(image, 3)
        assert nearby[joints[:, 1], joints[:, 0]].mean() > np.quantile(image, 0.85)


def test_the_density_of_cells_sums_to_their_number() -> None:
    counts = pictures(20, seed=1)["count"]
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    assert counts.min() >= 10
    assert counts.max() <= 60


def test_clouds_fit_into_the_unit_sphere_but_for_noise() -> None:
    points, labels = clouds(100, 64, seed=1)
    assert points.shape == (100, 64, 3)
    assert np.linalg.norm(points, axis=2).max() < 1.3
    assert set(labels) == set(range(len(SHAPES)))


def test_lines_are_the_same_each_time_and_padded_with_background() -> None:
    made, again = (lines(5, seed=1, held_out=True) for _ in range(2))
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.digits == other.digits
    image = padded(made, 400)
    width = made[0].pixels.shape[1]
    np.testing.assert_array_equal(image[0, 0, :, :width], made[0].pixels)
    assert not image[0, 0, :, width:].any()


@pytest.mark.parametrize(
    ("got", "wanted", "count"),
    [((1, 2, 3), (1, 2, 3), 0), ((1, 3), (1, 2, 3), 1), ((1, 2, 2, 3), (1, 2, 3), 1),
     ((), (4, 5), 2), ((7, 2, 3), (1, 2, 3), 1), ((3, 2, 1), (1, 2, 3), 2)],
)  # fmt: skip
def test_edits_are_counted(got: tuple[int, ...], wanted: tuple[int, ...], count: int) -> None:
    assert edits(got, wanted) == count


def test_greedy_decoding_drops_repetitions_then_blanks() -> None:
    steps = [10, 4, 4, 10, 4, 10, 7, 7, 1, 10]
    assert decode(np.eye(11)[[steps]]) == [(4, 4, 7, 1)]
    assert decode(np.eye(11)[[[10, 10]]]) == [()]
