from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.client import AsyncClient, Client
from edgekit.security.tokens import add_token
from tests.daemon import running

#: Runs one call on a fresh client: ``use(url, lambda client: client.live(), **settings)``.
Use = Callable[..., Any]


def blocking(url: str, call: Callable[[Any], Any], **settings: Any) -> Any:
    """One call of the blocking client."""
    with Client(url, **settings) as client:
        return call(client)


def with_await(url: str, call: Callable[[Any], Any], **settings: Any) -> Any:
    """One call of the asyncio client."""

    async def run() -> Any:
        async with AsyncClient(url, **settings) as client:
            return await call(client)

    return asyncio.run(run())


@pytest.fixture(params=[blocking, with_await], ids=["blocking", "asyncio"])
def use(request: pytest.FixtureRequest) -> Use:
    """Both clients, for what each does by itself: sending, receiving, waiting."""
    found: Use = request.param
    return found


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of tokens, and a token in it that may do everything."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    return path, add_token(path, "tester", admin=True)


@pytest.fixture(scope="session")
def served(built: Path, token: tuple[Path, str]) -> Iterator[str]:
    """The URL of a server of the bundle that wants a token."""
    with running(built, "--tokens", str(token[0])) as (url, _):
        yield url
