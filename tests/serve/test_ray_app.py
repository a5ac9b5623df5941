"""``edgekit serve --ray``: real replicas on this machine, one of them killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.client import Client
from edgekit.serve.config import ConfigError, checked
from edgekit.spec import Array

SERVE = [sys.executable, "-m", "edgekit", "serve"]
CONFIG = """
defaults: {runtime: onnxruntime, threads: 1}
ray: {replicas: 2, cpus: 0.1, health_s: 1}
"""


@pytest.fixture(scope="module")
def url(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("ray") / "server.yaml"
    config.write_text(CONFIG)
    command = [*SERVE, str(built), "--ray", "--port", "0", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next((line for line in process.stderr if line.startswith("Serving")), "")
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, process.stderr.read()
    reader = threading.Thread(target=process.stderr.read)  # so that the pipe never fills
    reader.start()
    yield found[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    reader.join()
    process.stderr.close()


def replicas() -> set[int]:
    """Process ids of the replicas of this test's cluster."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            name = " ".join(child.cmdline())
        except psutil.NoSuchProcess:  # nor a zombie: what was killed is one for a moment
            continue
        if "ServeReplica:edgekit" in name:
            found.add(child.pid)
    return found


@dataclass
class Asker(threading.Thread):
    """Asks one inference after the other; the client asks again what a dead replica had taken."""

    url: str
    x: Array
    stop: threading.Event
    answers: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with Client(self.url, retries=5) as client:
            while not self.stop.is_set():
                (answer,) = client.infer("residual", {"image": self.x}).values()
                self.answers.append(answer.ravel())


@pytest.mark.slow
def test_every_request_is_answered_right_while_a_replica_is_killed(url: str, built: Path) -> None:
    bundle = Bundle.open(built)
    artifact = bundle.selected("onnxruntime", None)
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    with runtimes.require("onnxruntime").load(bundle.file(artifact)) as session:
        (wanted,) = session.run({"image": x}).values()
    before = replicas()
    assert len(before) == 2
    stop = threading.Event()
    askers = [Asker(url, x, stop) for _ in range(4)]
    for asker in askers:
        asker.start()
    time.sleep(1)
    victim = min(before)
    psutil.Process(victim).kill()
    until = time.monotonic() + 60
    while len(replicas() - {victim}) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    stop.set()
    for asker in askers:
        asker.join()
    assert len(replicas() - before) == 1, "Ray did not replace the replica"
    answers = [answer for asker in askers for answer in asker.answers]
    assert len(answers) > 50
    np.testing.assert_allclose(
        np.stack(answers), np.tile(wanted.ravel(), (len(answers), 1)), atol=1e-5
    )


@pytest.mark.slow
def test_the_protocol_is_whole_behind_the_proxy(url: str) -> None:
    assert httpx.get(f"{url}/v2/health/live").status_code == 200
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    assert httpx.get(f"{url}/v2/models/residual").json()["name"] == "residual"
    missing = httpx.post(f"{url}/v2/models/nothing/infer", json={"inputs": []})
    assert missing.status_code == 404
    assert "unknown model" in missing.json()["error"]


@pytest.mark.slow
def test_a_single_replica_does_not_load_or_unload_for_all(url: str) -> None:
    answer = httpx.post(f"{url}/v2/repository/models/residual/unload")
    assert answer.status_code == 501
    assert "change the folder" in answer.json()["error"]


def test_loading_by_the_api_is_refused_with_replicas(built: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text("explicit: true")
    command = [*SERVE, str(built), "--ray", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "in one replica only" in done.stderr


def test_grpc_is_refused_with_ray(built: Path) -> None:
    command = [*SERVE, str(built), "--ray", "--grpc-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "Drop --grpc-port, or --ray" in done.stderr


def test_fewer_replicas_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_replicas is less than replicas, 3"):
        checked({"ray": {"replicas": 3, "max_replicas": 2}}, "server.yaml")


def test_replicas_without_ray_are_refused(built: Path) -> None:
    command = [*SERVE, str(built), "--replicas", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "need --ray" in done.stderr


def test_what_is_wrong_with_a_bundle_is_told_before_ray_starts(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    command = [*SERVE, str(tmp_path), "--ray"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
