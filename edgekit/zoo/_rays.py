"""What the neural fields share: encodings, samples along rays, volume rendering, and their data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Predict

__all__ = [
    "FAR", "NEAR", "Field", "along", "composite", "edges", "encode", "finer",
    "render", "resample", "shuffled", "some",
]  # fmt: skip

#: The scene is between these distances from a camera.
NEAR, FAR = 1.7, 4.3
_BATCH, _PIECE = 256, 800


def encode(x: torch.Tensor, octaves: int) -> torch.Tensor:
    """Positional encoding: ``x``, its sine and its cosine at so many frequencies.

    Of size (..., d * (1 + 2 * octaves)).
    """
    angles = torch.cat([x * (math.pi / 2 * 2**k) for k in range(octaves)], -1)
    return torch.cat([x, torch.sin(angles), torch.cos(angles)], -1)


class Field(nn.Module):
    """The density and the colour at a place: a perceptron with a head for the colour, which also
    depends on more, such as the direction one looks in.

    Takes an encoded place (..., place) and an encoded condition (..., condition); gives densities
    (...) and colours (..., 3).
    """

    def __init__(self, place: int, condition: int, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for features in (place, width, width, width):
            layers += [nn.Linear(features, width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.density = nn.Linear(width, 1)
        self.colour = nn.Sequential(
            nn.Linear(width + condition, width // 2), nn.ReLU(), nn.Linear(width // 2, 3)
        )

    def forward(
        self, place: torch.Tensor, condition: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.heads(self.trunk(place), condition)

    def heads(
        self, features: torch.Tensor, condition: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The density and the colour from the features of the trunk (..., width)."""
        density = nn.functional.softplus(self.density(features)).squeeze(-1)
        colour = torch.sigmoid(self.colour(torch.cat([features, condition], -1)))
        return density, colour


def edges(rays: torch.Tensor, count: int, *, jitter: bool) -> torch.Tensor:
    """The borders of ``count`` equal intervals along each ray (n, count + 1), moved at random in
    training.
    """
    even = torch.linspace(NEAR, FAR, count + 1, device=rays.device).expand(len(rays), count + 1)
    if not jitter:
        return even
    step = (FAR - NEAR) / count
    moved = even[:, 1:-1] + (torch.rand_like(even[:, 1:-1]) - 0.5) * step
    return torch.cat([even[:, :1], moved, even[:, -1:]], 1)


def resample(
    borders: torch.Tensor, weights: torch.Tensor, count: int, *, jitter: bool
) -> torch.Tensor:
    """``count`` sorted distances (n, count), drawn where the weights are: by the inverse of
    their cumulative distribution, evenly, or stratified at random in training.

    Args:
        borders: of the m intervals (n, m + 1).
        weights: of the intervals (n, m).
        count: how many.
        jitter: whether at random.
    """
    share = (weights + 1e-3) / (weights + 1e-3).sum(1, keepdim=True)
    cumulative = torch.cat([torch.zeros_like(share[:, :1]), share.cumsum(1)], 1)
    wanted = ((torch.arange(count, device=borders.device) + 0.5) / count).expand(
        len(borders), count
    )
    if jitter:
        wanted = wanted + (torch.rand_like(wanted) - 0.5) / count
    # ONNX has no searchsorted; there are few intervals.
    above = (wanted.unsqueeze(2) >= cumulative[:, 1:-1].unsqueeze(1)).sum(2)
    low, high = cumulative.gather(1, above), cumulative.gather(1, above + 1)
    start, end = borders.gather(1, above), borders.gather(1, above + 1)
    return start + (end - start) * (wanted - low) / (high - low)


def finer(
    borders: torch.Tensor, weights: torch.Tensor, count: int, *, jitter: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The middles of the intervals and ``count`` distances more, sorted; and from each to the
    next; both (n, m + count). See :func:`resample`.
    """
    middle = (borders[:, 1:] + borders[:, :-1]) / 2
    more = resample(borders, weights.detach(), count, jitter=jitter)
    both = torch.cat([middle, more], 1).sort(1).values
    after = torch.cat([both[:, 1:], torch.full_like(both[:, :1], FAR)], 1)
    return both, after - both


def composite(
    density: torch.Tensor,
    colour: torch.Tensor,
    lengths: torch.Tensor,
    background: torch.Tensor | float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Volume rendering: the colours of the rays (n, 3), each interval's share in them (n, m).

    Args:
        density: in each interval (n, m).
        colour: in each interval (n, m, 3).
        lengths: of the intervals (n, m).
        background: what is behind all, white or (n, 3).
    """
    depth = density * lengths
    through = torch.exp(-(depth.cumsum(1) - depth))
    weights = through * (1 - torch.exp(-depth))
    seen = (weights.unsqueeze(-1) * colour).sum(1)
    return seen + (1 - weights.sum(1, keepdim=True)) * background, weights


def along(rays: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """The points (n, m, 3) at these distances (n, m) of each ray's origin."""
    origins, directions = rays[:, None, :3], rays[:, None, 3:6]
    return origins + distances.unsqueeze(-1) * directions


def shuffled(data: Mapping[str, Array], epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of one epoch: all rays in random order."""
    count = len(next(iter(data.values())))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    for chosen in torch.split(order, _BATCH):
        yield {name: values[chosen] for name, values in tensors.items()}


def some(feeds: Feeds, batches: int = 8) -> Iterator[Feeds]:
    """A few small batches of rays from all over the views, to calibrate with."""
    count = len(next(iter(feeds.values())))
    for chosen in np.random.default_rng(0).permutation(count)[: batches * 64].reshape(-1, 64):
        yield {name: values[chosen] for name, values in feeds.items()}


def render(predict: Predict, feeds: Feeds, output: str = "colour") -> Array:
    """What the model shows for all rays of a view, (n, 3); in pieces, so that memory is small."""
    count = len(next(iter(feeds.values())))
    parts = [
        predict({name: values[start : start + _PIECE] for name, values in feeds.items()})[output]
        for start in range(0, count, _PIECE)
    ]
    return np.concatenate(parts)
