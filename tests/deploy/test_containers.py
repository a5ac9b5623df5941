"""The container files, as far as they can be checked without building them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

FILES = ("Dockerfile", "Dockerfile.jetson")


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, deploy: Path) -> Path:
    return deploy / "docker" / str(request.param)


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def of(path: Path, instruction: str) -> list[str]:
    """What stands behind an instruction, each time it comes; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [rest for word, rest in lines if word == instruction]


def copied(path: Path) -> list[str]:
    own = [line for line in of(path, "COPY") if not line.startswith("--from")]
    return [part for line in own for part in line.split()[:-1]]


def test_hadolint_finds_nothing_to_complain_about(file: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_it_copies_is_in_the_tree_and_not_ignored(file: Path, root: Path) -> None:
    ignored = file.with_name(f"{file.name}.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for part in copied(file):
        assert (root / part).exists()
        assert f"!{part}" in ignored


def test_every_package_of_the_build_is_copied(file: Path, project: dict[str, Any]) -> None:
    assert set(project["tool"]["setuptools"]["package-dir"].values()) <= set(copied(file))
    assert project["project"]["readme"] in copied(file)


def test_its_extras_exist_and_bring_no_torch(file: Path, project: dict[str, Any]) -> None:
    known = project["project"]["optional-dependencies"]
    (extras,) = re.findall(r'"\.\[(.*?)\]"', file.read_text())
    default = re.findall(r"^ARG EXTRAS=(.*)$", file.read_text(), re.MULTILINE)
    chosen = (default[0] if default else extras).split(",")
    found = closure([*project["project"]["dependencies"], *(w for e in chosen for w in known[e])])
    assert {"onnxruntime", "fastapi", "starlette"} <= found
    assert "torch" not in found


def closure(wanted: list[str]) -> set[str]:
    """Names of all packages that requirements bring, by what is installed here."""
    found: set[str] = set()
    waiting = [Requirement(each) for each in wanted]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower()
        extra = next(iter(requirement.extras), "")
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        if name == "tensorrt":  # NVIDIA's libraries are on no machine that tests this
            continue
        each = [Requirement(line) for line in requires(name) or []]
        waiting += [r for r in each if r.marker is None or r.marker.evaluate({"extra": extra})]
    return found


def test_it_runs_a_command_that_edgekit_takes(
    file: Path, serve_options: Callable[[Sequence[str]], dict[str, object]]
) -> None:
    assert json.loads(of(file, "ENTRYPOINT")[0]) == ["edgekit", "serve"]
    assert serve_options(json.loads(of(file, "CMD")[-1]))["path"] == Path("/models")


def test_its_user_is_a_number_and_not_root(file: Path) -> None:
    (user,) = of(file, "USER")  # Kubernetes wants a number to see that it is not root
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


def test_its_health_check_asks_the_port_that_it_serves(
    file: Path, serve_options: Callable[[Sequence[str]], dict[str, object]]
) -> None:
    (port,) = of(file, "EXPOSE")
    assert serve_options(["/models"])["port"] == int(port)
    assert f"http://127.0.0.1:{port}/v2/health/ready" in of(file, "HEALTHCHECK")[0]
