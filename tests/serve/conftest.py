from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from edgekit.serve.app import create_app
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository
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


@pytest.fixture(scope="module")
def client(built: Path) -> Iterator[TestClient]:
    with serving(built, name="residual") as (client, _):
        yield client


@pytest.fixture(scope="session")
def scales(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Bundles whose answer is the input times 1, 2 or 3; copy them before changing them."""
    folder = tmp_path_factory.mktemp("scales")
    return {factor: scale(folder / f"x{factor}.edge", factor) for factor in (1, 2, 3)}
