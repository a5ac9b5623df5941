"""Small real bundles that tests of the repository put in place, replace and damage."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekit.bundle import writing
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import make_bundle
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Workload

PLAIN = ModelConfig(runtime="onnxruntime", threads=1, warmup=1)


class Scale(nn.Module):
    """``y = factor * x``, both ``[batch, 4]``: the answer tells which bundle computed it.

    Beside it are weights that change nothing, to have a size.
    """

    def __init__(self, factor: float, weights: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((4,), factor), requires_grad=False)
        self.rest = nn.Parameter(torch.ones(4, max(1, weights // 4)), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + 0 * torch.relu(x @ self.rest).sum(1, keepdim=True)


def scale(path: Path, factor: float, runtime: str = "onnxruntime", weights: int = 4) -> Path:
    """A bundle of :class:`Scale`."""

    def samples() -> Iterator[Feeds]:
        yield {"x": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)}

    workload = Workload(
        name="scale",
        model=Scale(factor, weights).eval(),
        example_inputs={"x": torch.ones(1, 4)},
        output_names=["y"],
        calibration=samples,
    )
    targets = parse_targets([runtime], None)
    make_bundle(workload, path, recipe=load_recipe("fp32"), targets=targets, timing=None)
    return path


def put(bundle: Path, place: Path) -> Path:
    """Put a copy of a bundle in place as edgekit does: in one step, also where one is already."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with writing(place) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
    return place


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop of its own."""
    asyncio.run(asyncio.wait_for(work, 60))


@asynccontextmanager
async def started(
    folder: Path, models: dict[str, ModelConfig] | None = None, **server: Any
) -> AsyncIterator[Repository]:
    """A repository in the test's event loop. It looks at its folder when it is told to."""
    settings = {"defaults": PLAIN, "poll_s": 0, **server}
    repository = Repository(folder, ServerConfig(models=models or {}, **settings))
    await repository.start()
    try:
        yield repository
    finally:
        await repository.close()


async def factor(
    repository: Repository, name: str, version: str | None = None, **more: Any
) -> float:
    """Which of the bundles answers."""
    feeds = {"x": np.ones((1, 4), np.float32)}
    answer = await repository.infer(name, version, feeds, **more)
    values = np.unique(answer.outputs["y"])
    assert values.size == 1
    return float(values[0])
