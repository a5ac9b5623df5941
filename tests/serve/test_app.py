from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgekit.runtimes import SessionOptions
from starlette.testclient import TestClient

from edgekit.bundle import Bundle
from edgekit.errors import GateError, RuntimeUnavailableError
from edgekit.serve import app as app_module
from edgekit.serve.engine import Engine, choose_artifact
from edgekit.serve.protocol import ProtocolError
from edgekit.verify import Reference
from tests.conftest import SHAPE

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
    assert answer["extensions"] == ["binary_tensor_data"]


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
    client: TestClient, engine: Engine, bundle: Bundle, path: str
) -> None:
    answer = client.post(path, json=_request(bundle, id="42")).json()
    assert answer["id"] == "42"
    assert answer["model_name"] == "residual"
    feeds = Reference.load(bundle.path / "reference.npz").feeds[0]
    np.testing.assert_allclose(
        answer["outputs"][0]["data"], engine._session.run(feeds)["logits"].ravel(), rtol=1e-6
    )


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


def test_a_body_over_the_limit_is_413_declared_or_streamed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "BODY_LIMIT", 1000)
    assert client.post(f"{MODEL}/infer", content=b"x" * 1001).status_code == 413
    streamed = client.post(f"{MODEL}/infer", content=(b"x" * 100 for _ in range(11)))
    assert streamed.status_code == 413


def test_an_unknown_content_encoding_is_415(client: TestClient) -> None:
    answer = client.post(f"{MODEL}/infer", content=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_the_page_needs_no_network_and_escapes_the_name(built: Path) -> None:
    engine = Engine(Bundle.open(built), runtime="onnxruntime", options=SessionOptions(threads=1))
    with TestClient(app_module.create_app(engine, "<script>alert(1)</script>")) as client:
        page = client.get("/docs").text
        assert "<script>alert(1)" not in page
        assert "http://" not in page
        assert "https://" not in page
        assert client.get("/openapi.json").status_code == 200


def test_a_failing_engine_is_not_ready_until_a_canary_passes(
    built: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(Bundle.open(built), runtime="onnxruntime", options=SessionOptions(threads=1))
    with TestClient(
        app_module.create_app(engine, "residual"), raise_server_exceptions=False
    ) as client:
        good = engine._session.run

        def broken(_: object) -> None:
            raise RuntimeError("device lost")

        monkeypatch.setattr(engine._session, "run", broken)
        answer = client.post(f"{MODEL}/infer", json=_request(bundle))
        assert answer.status_code == 500
        assert "device lost" not in answer.text
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        monkeypatch.setattr(engine._session, "run", good)
        assert client.get("/v2/health/ready").status_code == 200


def test_a_full_queue_turns_requests_away(built: Path) -> None:
    engine = Engine(
        Bundle.open(built), runtime="onnxruntime", options=SessionOptions(threads=1), queue=2
    )
    feeds = {"image": np.zeros((1, *SHAPE), np.float32)}
    release = threading.Event()
    good = engine._session.run

    def slow(given: Any) -> Any:
        release.wait(10)
        return good(given)

    engine._session.run = slow

    async def three() -> list[object]:
        waiting = [asyncio.create_task(engine.infer(feeds)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(ProtocolError, match="2 requests are waiting") as caught:
            await engine.infer(feeds)
        assert caught.value.status == 503
        release.set()
        return await asyncio.gather(*waiting)

    assert len(asyncio.run(three())) == 2
    engine.close()


def test_an_artifact_that_computes_something_else_here_is_not_served(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Reference.load(bundle.path / "reference.npz")
    wrong = Reference(
        stored.feeds, [{"logits": -o["logits"]} for o in stored.outputs], stored.kinds
    )
    monkeypatch.setattr(Reference, "load", lambda _: wrong)
    with pytest.raises(GateError, match="does not compute on this machine"):
        Engine(bundle, runtime="onnxruntime", options=SessionOptions(threads=1))


def test_the_fastest_runtime_that_works_here_is_chosen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (decision.runtime for decision in bundle.manifest.decisions)
    assert choose_artifact(bundle, None).runtime == first
    monkeypatch.setattr(
        "edgekit.serve.engine.unusable", lambda name, _: "broken" if name == first else ""
    )
    assert choose_artifact(bundle, None).runtime == second
    monkeypatch.setattr("edgekit.serve.engine.unusable", lambda *_: "broken")
    with pytest.raises(RuntimeUnavailableError, match="broken"):
        choose_artifact(bundle, None)
