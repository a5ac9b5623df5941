"""A running server with the bundle of the other tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.security.tokens import add_token
from tests.daemon import Server, start, stop

__all__ = ["Served", "grpc_address"]


@dataclass(frozen=True)
class Served:
    """One server that wants a token, both ways to its model, and a file with the token."""

    http: str
    grpc: str
    token: str
    token_file: Path

    def url(self, scheme: str) -> str:
        """Of the model."""
        return f"{self.http if scheme == 'http' else self.grpc}/residual"


def grpc_address(server: Server) -> str:
    """Host and port that the server says."""
    return server.told.partition("gRPC at ")[2].split(",")[0].strip()


@pytest.fixture(scope="session")
def served(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tokens")
    token = add_token(folder / "tokens.yaml", "tester", admin=True)
    (folder / "token").write_text(f"{token}\n")
    given = ("--runtime", "onnxruntime", "--grpc-port", "0", "--tokens")
    server = start(built, *given, str(folder / "tokens.yaml"))
    try:
        grpc = f"grpc://{grpc_address(server)}"
        yield Served(server.url, grpc, token, folder / "token")
    finally:
        stop(server)
