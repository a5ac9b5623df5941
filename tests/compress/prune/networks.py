"""Small networks whose groups are written by hand, so that what is tested is all there is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.compress.prune.groups import Group, Groups, Member, Role
from edgekit.spec import Feeds
from edgekit.workload import Training, Workload

__all__ = ["CHANNELS", "Net", "channels", "mlp", "workload"]

CHANNELS = 8


class Net(nn.Module):
    """Two convolutions with a normalization between; the first one's channels can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.second = nn.Conv2d(CHANNELS, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.second(torch.relu(self.norm(self.conv(image))))
        return inner.mean((2, 3))


def _member(parameter: str, axis: int, role: Role, size: int, block: int = 1) -> Member:
    return Member(parameter, axis, np.arange(size * block).reshape(size, block), role)


def channels() -> Group:
    """The group of :class:`Net`."""
    vectors = ("conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    return Group(
        "conv",
        CHANNELS,
        (
            _member("conv.weight", 0, "out", CHANNELS),
            *(_member(name, 0, "scale", CHANNELS) for name in vectors),
            _member("second.weight", 1, "in", CHANNELS),
        ),
    )


def mlp(block: int = 1) -> tuple[nn.Module, Groups, dict[str, torch.Tensor]]:
    """16-32-32-4 linear layers, the groups of the two hidden ones, and inputs.

    Args:
        block: channels in a unit, as in an attention head.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    ).eval()
    size = 32 // block

    def group(name: str, reader: str) -> Group:
        return Group(
            name,
            size,
            (
                _member(f"{name}.weight", 0, "out", size, block),
                _member(f"{name}.bias", 0, "scale", size, block),
                _member(f"{reader}.weight", 1, "in", size, block),
            ),
        )

    groups = Groups((group("0", "2"), group("2", "4")), {}, ())
    return model, groups, {"x": torch.zeros(1, 16)}


def workload() -> Workload:
    """:class:`Net` with data."""
    torch.manual_seed(0)
    model = Net().eval()
    images = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(16) % 4

    def batches(_epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        yield from ({"image": images[s : s + 8], "label": labels[s : s + 8]} for s in (0, 8))

    def feeds() -> list[Feeds]:
        return [{"image": images[start : start + 8].numpy()} for start in (0, 8)]

    return Workload(
        "net",
        model,
        {"image": images[:1]},
        feeds,
        training=Training(
            batches,
            lambda outputs, batch: functional.cross_entropy(outputs["output"], batch["label"]),
        ),
    )
