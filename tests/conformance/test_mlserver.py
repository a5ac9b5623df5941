"""MLServer, another server of the protocol, judged for real: what it keeps and what it breaks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgekit.conformance.suite import conforms, run
from edgekit.conformance.target import Target

ROOT = Path(__file__).parents[2]

#: The binding clauses that MLServer 1.7.1 breaks.
BREAKS = {
    "rest/error-bodies",  # 422 {"detail": ...}, and a plain text with 500
    "rest/outputs-chosen",  # sends all outputs whatever was asked for
    "rest/refuses-unknown-output",
    "rest/refuses-wrong-rank",  # leaves shapes to the model
    "grpc/outputs-chosen",
    "grpc/refuses-unknown-output",
    "grpc/refuses-wrong-rank",
    "grpc/refuses-extra-tensor",
}


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def mlserver() -> Iterator[tuple[str, str]]:
    """URL and gRPC address of a running MLServer; its environment is built when it is missing."""
    command = ["make", "--silent", f"PYTHON={sys.executable}", "build/servers/.ready"]
    subprocess.run(command, cwd=ROOT, check=True)
    http, grpc, metrics = _free_ports(3)
    settings = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        [ROOT / "build/servers/bin/mlserver", "start", "."],
        cwd=Path(__file__).parent / "mlserver_model",
        env={**inherited, **settings, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        url = f"http://127.0.0.1:{http}"
        _wait(f"{url}/v2/models/linear/ready", process)
        yield url, f"127.0.0.1:{grpc}"
        process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, "MLServer ended"
        time.sleep(0.2)
    raise TimeoutError(url)


@pytest.mark.slow
def test_mlserver_breaks_these_clauses_and_keeps_the_others(mlserver: tuple[str, str]) -> None:
    url, grpc = mlserver
    target = Target(url, grpc=grpc)
    outcomes = run(target)
    target.close()
    broken = {o.clause.id for o in outcomes if o.status == "fail" and o.binding}
    kept = {o.clause.id for o in outcomes if o.status == "pass"}
    assert broken == BREAKS
    assert kept >= {"rest/infer", "rest/nested-data", "rest/version-metadata", "grpc/infer-raw"}
    assert not conforms(outcomes)
