"""What the files in ``deploy/`` are checked with: the tree, and the real command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import typer.main

from edgekit.cli import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def deploy() -> Path:
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def serve_options() -> Callable[[Sequence[str]], dict[str, object]]:
    """What ``edgekit serve`` makes of arguments; fails on those that it does not take."""
    command = typer.main.get_group(app).commands["serve"]

    def parsed(arguments: Sequence[str]) -> dict[str, object]:
        return dict(command.make_context("serve", [*arguments]).params)

    return parsed
