"""A model with convolutions, normalization and attention, built for both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Workload

SIDE, WIDTH = 4, 16


class Mixed(nn.Module):
    """Convolutions, then attention over as many places as there are channels in a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.body = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GELU())
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = (x + self.body(x)).flatten(2).transpose(1, 2)
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        x = self.norm(x + functional.softmax(scores / 4, dim=-1) @ self.value(x))
        return self.head(x.mean(1))


def _batches() -> Iterator[Feeds]:
    generator = np.random.default_rng(0)
    for _ in range(4):
        yield {"image": generator.standard_normal((4, 3, SIDE, SIDE)).astype(np.float32)}


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with fp32 and int8 artifacts of :class:`Mixed`."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("mixed") / "mixed.edge"
    make_bundle(
        Workload(
            name="mixed",
            model=Mixed().eval(),
            example_inputs={"image": torch.zeros(1, 3, SIDE, SIDE)},
            output_names=["logits"],
            calibration=_batches,
        ),
        path,
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(5, 10), seconds=1),
    )
    return path
