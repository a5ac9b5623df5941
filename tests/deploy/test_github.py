"""The GitHub workflow: it follows GitHub's schema, and its commands are edgekit's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from edgekit.cli import app


@pytest.fixture(scope="module")
def workflow(deploy: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((deploy / "github/profile.yml").read_text())
    return read


def _commands(workflow: dict[str, Any]) -> list[list[str]]:
    steps = workflow["jobs"]["profile"]["steps"]
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("edgekit ")]


def test_it_follows_the_schema_of_workflows(deploy: Path) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*command, "vendor.github-workflows", deploy / "github/profile.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_commands_are_those_of_edgekit(workflow: dict[str, Any]) -> None:
    commands = _commands(workflow)
    assert [name for name, *_ in commands] == ["profile", "report"]
    for name, *arguments in commands:
        typer.main.get_group(app).commands[name].make_context(name, arguments)


def test_the_report_comes_even_where_the_gate_failed(workflow: dict[str, Any]) -> None:
    steps = workflow["jobs"]["profile"]["steps"]
    after = steps[[step.get("name") for step in steps].index("Profile") + 1 :]
    assert after
    assert all(step["if"].startswith("always()") for step in after)
    written = " ".join(step.get("run", "") for step in after)
    assert re.search(r"report\.md >> \"\$GITHUB_STEP_SUMMARY\"", written)


def test_it_may_only_read(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
