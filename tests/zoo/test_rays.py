from __future__ import annotations

import math

import numpy as np
import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.zoo import mip_nerf
from edgekit.zoo._rays import FAR, NEAR, composite, edges, finer, render, resample
from edgekit.zoo._scene import (
    HELD_OUT,
    PATCH,
    SIZE,
    TRAINED,
    Pose,
    rays_of,
    tinted,
    trace,
    view,
    wild_view,
)


def test_the_ray_to_the_middle_sees_the_red_ball_and_those_at_the_corners_white() -> None:
    rays = rays_of(HELD_OUT[0], 41)
    seen = trace(rays)
    red, green, blue = seen[len(seen) // 2]
    assert red > 2 * green
    assert red > 2 * blue
    np.testing.assert_array_equal(seen[[0, 40]], 1.0)
    np.testing.assert_allclose(np.linalg.norm(rays[:, 3:], axis=1), 1, rtol=1e-5)


def test_no_held_out_view_is_near_one_that_is_trained_on() -> None:
    def eye(pose: Pose) -> np.ndarray:
        position = rays_of(pose, 1)[0, :3]
        return position / np.linalg.norm(position)

    cosines = np.array([[eye(one) @ eye(other) for other in TRAINED] for one in HELD_OUT])
    assert np.degrees(np.arccos(cosines.max())) > 10


def test_a_wall_hides_what_is_behind_it_and_nothing_shows_the_background() -> None:
    lengths = torch.full((1, 3), 0.5)
    colour = torch.eye(3).unsqueeze(0)
    wall, weights = composite(torch.tensor([[0.0, 1e4, 1e4]]), colour, lengths)
    torch.testing.assert_close(wall, torch.tensor([[0.0, 1.0, 0.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0]]))
    empty, _ = composite(torch.zeros(1, 3), colour, lengths, torch.tensor([[0.2, 0.4, 0.6]]))
    torch.testing.assert_close(empty, torch.tensor([[0.2, 0.4, 0.6]]))


def test_fog_lets_through_what_beer_and_lambert_say() -> None:
    _, weights = composite(torch.full((1, 8), 2.0), torch.zeros(1, 8, 3), torch.full((1, 8), 0.1))
    torch.testing.assert_close(1 - weights.sum(), torch.tensor(math.exp(-1.6)))


def test_samples_are_drawn_where_the_weights_are() -> None:
    borders = edges(torch.zeros(2, 6), 10, jitter=False)
    weights = torch.zeros(2, 10)
    weights[0, 3], weights[1, 7] = 100.0, 100.0
    drawn = resample(borders, weights, 16, jitter=False)
    assert (drawn.diff(dim=1) >= 0).all()
    inside = (drawn >= borders[:, [3, 7]].diagonal()[:, None]) & (
        drawn <= borders[:, [4, 8]].diagonal()[:, None]
    )
    assert inside.float().mean() > 0.9


def test_even_weights_give_even_samples() -> None:
    borders = edges(torch.zeros(1, 6), 8, jitter=False)
    drawn = resample(borders, torch.ones(1, 8), 8, jitter=False)
    torch.testing.assert_close(drawn, (borders[:, 1:] + borders[:, :-1]) / 2)
    both, lengths = finer(borders, torch.ones(1, 8), 8, jitter=False)
    assert both.shape == (1, 16)
    torch.testing.assert_close(both[:, :1] + lengths.sum(), torch.tensor([[FAR]]))
    assert both.min() > NEAR


def test_a_thin_piece_of_a_cone_is_encoded_as_its_point() -> None:
    cones = torch.cat([torch.from_numpy(rays_of(HELD_OUT[0], 2)), torch.full((4, 1), 1e-6)], 1)
    borders = torch.tensor([[3.0, 3.0 + 1e-5]]).expand(4, 2)
    got = mip_nerf._encoded(cones, borders)
    point = (cones[:, :3] + (3.0 + 5e-6) * cones[:, 3:6])[:, None]
    angles = torch.cat([point * (math.pi / 2 * 2**k) for k in range(8)], -1)
    torch.testing.assert_close(
        got, torch.cat([torch.sin(angles), torch.cos(angles)], -1), atol=2e-3, rtol=0
    )


def test_the_encoding_is_the_mean_over_the_cone() -> None:
    """Sampled: points in a piece of a cone, with lengths as often as the cone is wide there."""
    drawn = np.random.default_rng(0)
    radius, near, far = 0.05, 2.0, 2.3
    direction = np.array([1.0, 0.0, 0.0])
    length = (drawn.uniform(near**3, far**3, 200_000)) ** (1 / 3)
    angle, out = drawn.uniform(0, 2 * np.pi, (2, 200_000))
    out = length * radius * np.sqrt(out / (2 * np.pi))
    points = np.stack([length, out * np.cos(angle), out * np.sin(angle)], 1)
    cones = torch.tensor([[0.0, 0, 0, *direction, radius]])
    got = mip_nerf._encoded(cones, torch.tensor([[near, far]]))[0, 0].numpy()
    rates = np.pi / 2 * 2.0 ** np.arange(2)
    sines = np.concatenate([np.sin(points * rate).mean(0) for rate in rates])
    np.testing.assert_allclose(got[:6], sines, atol=0.01)


def test_photographs_in_the_wild_have_patches_and_their_own_light() -> None:
    for image in (0, 20):
        clean = tinted(view(TRAINED[image]), image)
        different = (np.abs(wild_view(image) - clean).max(1) > 1e-6).mean()
        assert different == PATCH**2 / SIZE**2


def test_the_scene_is_shown_in_the_light_of_the_image_that_is_asked_for() -> None:
    count = len(TRAINED)
    white = np.concatenate([tinted(np.ones((1, 3)), image) for image in range(count)])
    corner = np.repeat(rays_of(HELD_OUT[0], 8)[:1], count, 0)
    with reference_predict(zoo.load("nerf-w-balls")) as predict:
        shown = predict({"rays": corner, "image": np.arange(count)})["colour"]
    apart = np.abs(white[:, None] - white).mean()
    assert np.abs(shown - white).mean() < apart / 3


def test_what_stood_before_the_scene_is_known_as_unsure() -> None:
    inside, outside = [], []
    with reference_predict(zoo.load("nerf-w-balls")) as predict:
        for image in (3, 17, 31):
            clean = tinted(view(TRAINED[image]), image)
            before = np.abs(wild_view(image) - clean).max(1) > 1e-6
            feeds = {"rays": rays_of(TRAINED[image]), "image": np.full(len(before), image)}
            unsure = render(predict, feeds, "uncertainty")[:, 0]
            inside.append(unsure[before].mean())
            outside.append(unsure[~before].mean())
    assert np.min(inside) > 1.5 * np.max(outside)
