from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edgekit.runtimes import SessionOptions
from starlette.testclient import TestClient

from edgekit.bundle import Bundle
from edgekit.serve.app import create_app
from edgekit.serve.engine import Engine


@pytest.fixture(scope="module")
def engine(built: Path) -> Engine:
    return Engine(Bundle.open(built), runtime="onnxruntime", options=SessionOptions(threads=1))


@pytest.fixture(scope="module")
def client(built: Path) -> Iterator[TestClient]:
    own = Engine(Bundle.open(built), runtime="onnxruntime", options=SessionOptions(threads=1))
    with TestClient(create_app(own, "residual"), raise_server_exceptions=False) as client:
        yield client
