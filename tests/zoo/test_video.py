from __future__ import annotations

import torch

from edgekit.zoo import video


def _corners(clip: torch.Tensor) -> torch.Tensor:
    """Where the digit's upper left pixel is in each frame (8, 2)."""
    rows, columns = (clip[:, 0].amax(axis) for axis in (2, 1))
    return torch.stack([rows.argmax(1), columns.argmax(1)], dim=1)


def test_a_digit_flies_in_the_direction_that_the_label_says_and_stays_in_the_frame() -> None:
    images = torch.ones(64, 1, 28, 28)
    made, ways = video.clips(images, torch.Generator().manual_seed(0))
    assert torch.equal(made.sum((2, 3, 4)), torch.full((64, 8), 14.0 * 14.0))
    for clip, way in zip(made, ways.tolist(), strict=True):
        places = _corners(clip)
        step = (places[-1] - places[-2]).sign().tolist()
        assert tuple(step) == video._DIRECTIONS[way]


@torch.no_grad()
def test_played_backwards_a_digit_flies_where_it_came_from() -> None:
    """The order of the frames is what tells the direction."""
    images = torch.from_numpy(video.mnist().test_inputs[:200])
    made, ways = video.clips(images, torch.Generator().manual_seed(1))
    # The same flights of white squares, whose places can be read off.
    squares, _ = video.clips(torch.ones_like(images), torch.Generator().manual_seed(1))
    steps = [_corners(clip)[:2].diff(dim=0).squeeze(0).sign() for clip in squares]
    origins = torch.tensor([video._DIRECTIONS.index(tuple((-s).tolist())) for s in steps])
    found = video.workload().model(made.flip(1))[1].argmax(1)
    other = origins != ways
    assert other.sum() > 50
    assert (found == origins).float().mean() > 0.95
    assert (found == origins)[other].float().mean() > 0.95
