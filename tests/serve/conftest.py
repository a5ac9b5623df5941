from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from torch import nn

from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.preprocess import ImageInput
from edgekit.serve.app import create_app
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.conftest import SHAPE
from tests.serve.bundles import scale

#: What the tests serve with unless they say otherwise.
ONE = ModelConfig(runtime="onnxruntime", threads=1)


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    """As the server does: what is there by now need not be looked at with every unload."""
    gc.collect()
    gc.freeze()


Serving = Callable[..., AbstractContextManager[tuple[TestClient, Repository]]]


@contextmanager
def serving(
    path: Path, model: ModelConfig = ONE, name: str | None = None, **server: Any
) -> Iterator[tuple[TestClient, Repository]]:
    """A client of the application in this process, and the repository behind it."""
    config = ServerConfig(defaults=model, **server)
    repository = Repository(path, config, name)
    with TestClient(create_app(repository, config), raise_server_exceptions=False) as client:
        yield client, repository


class Camera(nn.Module):
    """The network of the tests behind an :class:`ImageInput`: takes pictures of any size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = nn.Sequential(ImageInput(size=SHAPE[1:], mean=0.5, std=0.25), network)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    """A bundle that takes the bytes of pictures, NHWC."""

    def pictures() -> Iterator[Feeds]:
        generator = np.random.default_rng(0)
        yield {"image": generator.integers(0, 256, (2, 20, 24, 3), np.uint8)}

    path = tmp_path_factory.mktemp("camera") / "camera.edge"
    workload = Workload(
        name="camera",
        model=Camera(network).eval(),
        example_inputs={"image": torch.zeros(1, 20, 24, 3, dtype=torch.uint8)},
        dynamic_shapes={"image": {0: "batch", 1: "height", 2: "width"}},
        output_names=["logits"],
        calibration=pictures,
        labels=["a", "b", "c", "d", "e"],
    )
    make_bundle(
        workload,
        path,
        recipe=load_recipe("fp32"),
        targets=parse_targets(["onnxruntime"], None),
        timing=Timing(rounds=(1, 2), seconds=0.1),
    )
    return path


@pytest.fixture(scope="module")
def client(built: Path) -> Iterator[TestClient]:
    with serving(built, name="residual") as (client, _):
        yield client


@pytest.fixture(scope="session")
def scales(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Bundles whose answer is the input times 1, 2 or 3; copy them before changing them."""
    folder = tmp_path_factory.mktemp("scales")
    return {factor: scale(folder / f"x{factor}.edge", factor) for factor in (1, 2, 3)}
