"""The systemd unit: valid, closed, and its command is one that edgekit takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgekit.serve.config import ServerConfig

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
PROGRAM = "/opt/edgekit/bin/edgekit"


@pytest.fixture(scope="module")
def unit(deploy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit with a program that this machine has: systemd looks."""
    here = tmp_path_factory.mktemp("units") / "edgekit.service"
    text = (deploy / "edgekit.service").read_text()
    here.write_text(text.replace(f"={PROGRAM}", f"={sys.executable}"))
    return here


@needs_systemd
def test_systemd_finds_nothing_to_complain_about(unit: Path) -> None:
    command = ["systemd-analyze", "verify", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


@needs_systemd
def test_systemd_finds_it_little_exposed(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for edgekit\.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 1.5  # a unit without any protection has 9.6


def test_its_command_is_one_that_edgekit_takes(
    deploy: Path, serve_options: Callable[[Sequence[str]], dict[str, object]]
) -> None:
    text = (deploy / "edgekit.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, command, *arguments = shlex.split(line)
    assert (program, command) == (PROGRAM, "serve")
    options = serve_options(arguments)
    assert options["host"] == "127.0.0.1"
    assert options["path"] == Path("/srv/edgekit")


def test_it_has_longer_to_stop_than_the_server_takes_to_drain(deploy: Path) -> None:
    text = (deploy / "edgekit.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > ServerConfig().drain_s
