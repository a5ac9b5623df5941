"""The real daemon in a process of its own, with real clients on loopback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.verify import Reference
from tests.daemon import EDGEKIT, Server, start, stop


@pytest.fixture(scope="module")
def server(built: Path) -> Iterator[Server]:
    running = start(built, "--runtime", "openvino")
    yield running
    stop(running)


@pytest.fixture(scope="module")
def sample(built: Path) -> np.ndarray:
    return Reference.load(built / "reference.npz").feeds[0]["image"]


@pytest.fixture(scope="module")
def expected(built: Path, sample: np.ndarray) -> np.ndarray:
    bundle = Bundle.open(built)
    artifact = bundle.selected("openvino")
    with runtimes.get("openvino").load(bundle.file(artifact)) as session:
        return session.run({"image": sample})["logits"]


def _json_request(sample: np.ndarray) -> str:
    entry = {"name": "image", "shape": list(sample.shape), "datatype": "FP32"}
    return json.dumps({"inputs": [{**entry, "data": sample.tolist()}]})


def test_curl_gets_the_right_answer(
    server: Server, sample: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_text(_json_request(sample))
    done = subprocess.run(
        ["curl", "-sS", f"{server.url}/v2/models/residual/infer", "-d", "@request.json"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected.ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_the_right_answer(
    server: Server, sample: np.ndarray, expected: np.ndarray, binary: bool
) -> None:
    import tritonclient.http as triton

    client = triton.InferenceServerClient(server.address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("residual")
    assert client.get_model_metadata("residual")["inputs"][0]["name"] == "image"
    feed = triton.InferInput("image", list(sample.shape), "FP32")
    feed.set_data_from_numpy(sample, binary_data=binary)
    wanted = triton.InferRequestedOutput("logits", binary_data=binary)
    result = client.infer("residual", [feed], outputs=[wanted], request_id="a1")
    np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-4, atol=1e-5)
    assert result.get_response()["id"] == "a1"
    client.close()


def test_the_server_says_where_it_is_and_how_to_try_it(server: Server) -> None:
    assert f"{server.url}/docs" in server.told
    with urllib.request.urlopen(f"{server.url}/docs") as response:
        assert b"Try it" in response.read()


def test_sigterm_finishes_and_stops(built: Path) -> None:
    assert stop(start(built)) in {0, -signal.SIGTERM}


def test_a_port_in_use_is_one_line_and_exit_code_2(built: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*EDGEKIT, "serve", str(built), "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"edgekit: 127.0.0.1:{port}: the port is in use. "
        "Choose another --port, or stop what uses it."
    )


def test_a_damaged_bundle_is_not_served(bundle_copy: Path) -> None:
    (bundle_copy / "model.onnx").write_bytes(b"x")
    done = subprocess.run(
        [*EDGEKIT, "serve", str(bundle_copy), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "model.onnx" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
