from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from edgekit.serve.app import create_app
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository

#: What the tests serve with unless they say otherwise.
ONE = ModelConfig(runtime="onnxruntime", threads=1)

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
