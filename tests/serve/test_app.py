from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.verify import Reference
from tests.conftest import SHAPE
from tests.serve.conftest import serving

MODEL = "/v2/models/residual"


def _request(bundle: Bundle, **more: Any) -> dict[str, Any]:
    image = Reference.load(bundle.path / "reference.npz").feeds[0]["image"]
    entry = {
        "name": "image",
        "shape": list(image.shape),
        "datatype": "FP32",
        "data": image.ravel().tolist(),
    }
    return {"inputs": [entry], **more}


def test_server_metadata(client: TestClient) -> None:
    answer = client.get("/v2").json()
    assert answer["name"] == "edgekit"
    assert answer["version"]
    assert {"binary_tensor_data", "model_repository"} <= set(answer["extensions"])


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready"],
)
def test_a_good_server_is_live_and_ready(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_model_metadata(client: TestClient, path: str) -> None:
    answer = client.get(path).json()
    assert answer["name"] == "residual"
    assert answer["versions"] == ["1"]
    assert answer["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, *SHAPE]}]
    assert answer["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 5]}]


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{MODEL}/versions/1/infer"])
def test_an_inference_gives_the_artifact_s_own_output(
    client: TestClient, bundle: Bundle, path: str
) -> None:
    answer = client.post(path, json=_request(bundle, id="42")).json()
    assert answer["id"] == "42"
    assert answer["model_name"] == "residual"
    feeds = Reference.load(bundle.path / "reference.npz").feeds[0]
    artifact = bundle.selected("onnxruntime")
    with runtimes.get("onnxruntime").load(bundle.file(artifact)) as session:
        right = session.run(feeds)["logits"]
    np.testing.assert_allclose(answer["outputs"][0]["data"], right.ravel(), rtol=1e-4, atol=1e-5)


def test_only_the_outputs_asked_for_are_returned(client: TestClient, bundle: Bundle) -> None:
    good = client.post(f"{MODEL}/infer", json=_request(bundle, outputs=[{"name": "logits"}]))
    assert [output["name"] for output in good.json()["outputs"]] == ["logits"]
    bad = client.post(f"{MODEL}/infer", json=_request(bundle, outputs=[{"name": "lodgits"}]))
    assert bad.status_code == 400
    assert "unknown output 'lodgits'" in bad.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", f"{MODEL}/versions/2", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/nowhere", 404),
        ("GET", f"{MODEL}/infer", 405),
        ("POST", f"{MODEL}/infer", 400),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
    ],
)
def test_every_failure_is_an_error_object(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [1, 3, 16], "data": [0.0] * 48}, "3 dimensions instead of 4"),
        ({"shape": [1, 3, 16, 15], "data": [0.0] * 720}, "axis 3 is 15, expected 16"),
        ({"datatype": "FP64"}, "dtype is float64, expected float32"),
        ({"name": "imag"}, "did you mean 'imag'"),
    ],
)
def test_feeds_that_do_not_fit_are_400(
    client: TestClient, bundle: Bundle, change: dict[str, Any], message: str
) -> None:
    request = _request(bundle)
    request["inputs"][0] |= change
    answer = client.post(f"{MODEL}/infer", json=request)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_body_over_the_limit_is_413_declared_streamed_or_compressed(built: Path) -> None:
    with serving(built, name="residual", max_body_mb=0.001) as (client, _):
        assert client.post(f"{MODEL}/infer", content=b"x" * 1100).status_code == 413
        streamed = client.post(f"{MODEL}/infer", content=(b"x" * 100 for _ in range(11)))
        assert streamed.status_code == 413
        bomb = client.post(
            f"{MODEL}/infer",
            content=gzip.compress(b"x" * 100_000),
            headers={"Content-Encoding": "gzip"},
        )
        assert bomb.status_code == 413


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_requests_and_answers_may_be_compressed(
    client: TestClient, bundle: Bundle, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = json.dumps(_request(bundle)).encode()
    plain = client.post(f"{MODEL}/infer", content=body, headers={"Accept-Encoding": "identity"})
    answer = client.post(
        f"{MODEL}/infer",
        content=pack(body),
        headers={"Content-Encoding": coding, "Accept-Encoding": coding},
    )
    assert answer.headers["Content-Encoding"] == coding
    assert answer.json() == plain.json()


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [("zstd", b"x", 415), ("gzip", b"x", 400), ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 400)],
)
def test_a_wrong_content_encoding_is_refused(
    client: TestClient, coding: str, body: bytes, status: int
) -> None:
    answer = client.post(f"{MODEL}/infer", content=body, headers={"Content-Encoding": coding})
    assert answer.status_code == status
    assert "error" in answer.json()


def test_a_failing_engine_is_not_ready_until_a_canary_passes(
    built: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(built, name="residual") as (client, repository):
        session = repository.find("residual")._workers[0].session
        good = session.run

        def broken(*_: object) -> None:
            raise RuntimeError("device lost")

        monkeypatch.setattr(session, "run", broken)
        answer = client.post(f"{MODEL}/infer", json=_request(bundle))
        assert answer.status_code == 500
        assert "device lost" not in answer.text
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        monkeypatch.setattr(session, "run", good)
        assert client.get("/v2/health/ready").status_code == 200
