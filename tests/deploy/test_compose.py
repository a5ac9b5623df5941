"""The compose file and Prometheus's configuration beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def compose(deploy: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((deploy / "compose.yaml").read_text())
    return read


def test_it_follows_the_compose_specification(deploy: Path) -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, deploy / "compose.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_a_command_that_edgekit_takes(
    compose: dict[str, Any], serve_options: Callable[[Sequence[str]], dict[str, object]]
) -> None:
    options = serve_options(compose["services"]["edgekit"]["command"])
    assert options["host"] == "0.0.0.0"  # noqa: S104, what a container has to bind
    assert options["tokens"] == Path("/run/secrets/tokens")


def test_it_builds_what_exists(compose: dict[str, Any], deploy: Path, root: Path) -> None:
    build = compose["services"]["edgekit"]["build"]
    assert (deploy / build["context"]).resolve() == root
    assert (root / build["dockerfile"]).is_file()


def test_the_readme_says_where_its_secrets_come_from(compose: dict[str, Any], deploy: Path) -> None:
    readme = (deploy / "README.md").read_text()
    for secret in compose["secrets"].values():
        assert f"deploy/{Path(secret['file']).name}" in readme


def test_every_service_is_read_only_and_without_rights(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_prometheus_scrapes_its_service_with_its_secret(
    compose: dict[str, Any], deploy: Path
) -> None:
    (job,) = yaml.safe_load((deploy / "prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = [config["targets"] for config in job["static_configs"]]
    host, port = target.split(":")
    assert compose["services"][host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    secret = Path(job["authorization"]["credentials_file"])
    assert str(secret.parent) == "/run/secrets"
    assert secret.name in compose["services"]["prometheus"]["secrets"]
