from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.serve.config import ImageConfig
from edgekit.spec import Feeds, Outputs
from edgekit.verify import Reference
from tests.serve.conftest import ONE, serving

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
LABELS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def cam(camera: Path) -> Iterator[TestClient]:
    with serving(camera, name="camera") as (client, _):
        yield client


def computed(path: Path, feeds: Feeds) -> Outputs:
    """What the artifact itself computes."""
    bundle = Bundle.open(path)
    artifact = bundle.selected("onnxruntime")
    with runtimes.get("onnxruntime").load(bundle.file(artifact)) as session:
        return session.run(feeds)


def encoded(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind)
    return stream.getvalue()


def test_a_picture_gives_the_classes_best_first(cam: TestClient, camera: Path) -> None:
    answer = cam.post("/predict/camera?top_k=3", content=encoded()).json()
    right = computed(camera, {"image": PIXELS[None]})["logits"][0]
    order = np.argsort(-right)[:3]
    assert [one["index"] for one in answer["top"]] == order.tolist()
    assert [one["label"] for one in answer["top"]] == [LABELS[i] for i in order]
    np.testing.assert_allclose([one["score"] for one in answer["top"]], right[order], rtol=1e-5)
    assert answer["scores"] == "raw"
    assert (answer["model"], answer["version"]) == ("camera", "1")
    assert answer["ms"] > 0


def test_probabilities_are_given_only_when_asked_for(cam: TestClient, camera: Path) -> None:
    answer = cam.post("/predict/camera?softmax=true", content=encoded()).json()
    right = np.exp(computed(camera, {"image": PIXELS[None]})["logits"][0].astype(np.float64))
    assert answer["scores"] == "softmax"
    scores = {one["index"]: one["score"] for one in answer["top"]}
    assert sum(scores.values()) == pytest.approx(1)
    np.testing.assert_allclose([scores[i] for i in range(5)], right / right.sum(), rtol=1e-4)


def test_a_form_with_one_file_is_the_same_as_the_file(cam: TestClient) -> None:
    raw = cam.post("/predict/camera", content=encoded()).json()
    form = cam.post("/predict/camera", files={"file": ("photo.png", encoded())}).json()
    assert form["top"] == raw["top"]
    two = cam.post("/predict/camera", files={"a": ("a", b"1"), "b": ("b", b"2")})
    assert two.status_code == 400
    assert "2 parts" in two.json()["error"]


def test_npy_npz_and_json_are_the_same_request(client: TestClient, built: Path) -> None:
    sample = Reference.load(built / "reference.npz").feeds[0]["image"][:1]
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, sample)
    np.savez(npz, image=sample)
    bodies = [npy.getvalue(), npz.getvalue(), json.dumps(sample[0].tolist()).encode()]
    bodies.append(json.dumps({"input": sample.tolist()}).encode())
    tops = [client.post("/predict/residual", content=body).json()["top"] for body in bodies]
    assert tops == [tops[0]] * 4
    right = computed(built, {"image": sample})["logits"][0]
    np.testing.assert_allclose(tops[0][0]["score"], right.max(), rtol=1e-4)


def test_top_k_0_gives_the_tensors(client: TestClient, built: Path) -> None:
    sample = Reference.load(built / "reference.npz").feeds[0]["image"]
    answer = client.post("/predict/residual?top_k=0", json=sample.tolist()).json()
    logits = answer["outputs"]["logits"]
    assert logits["shape"] == [len(sample), 5]
    right = computed(built, {"image": sample})["logits"]
    np.testing.assert_allclose(logits["data"], right, rtol=1e-4, atol=1e-5)
    assert "top" not in answer


def test_several_samples_give_a_list_each(client: TestClient) -> None:
    answer = client.post("/predict/residual?top_k=2", json=np.zeros((3, 3, 16, 16)).tolist())
    assert [len(row) for row in answer.json()["top"]] == [2, 2, 2]


def test_pictures_for_a_normalised_model_need_the_operator_s_word(built: Path) -> None:
    with serving(built, name="residual") as (client, _):
        refused = client.post("/predict/residual", content=encoded())
        assert refused.status_code == 400
        assert "ImageInput" in refused.json()["error"]
    told = ONE.model_copy(update={"image": ImageConfig(mean=(0.5,), std=(0.25,))})
    with serving(built, told, name="residual") as (client, _):
        answer = client.post("/predict/residual", content=encoded()).json()
    small = Image.fromarray(PIXELS).resize((16, 16), Image.Resampling.BILINEAR)
    values = ((np.asarray(small, np.float32) / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None]
    right = computed(built, {"image": values})["logits"][0]
    assert answer["top"][0]["score"] == pytest.approx(right.max(), rel=1e-4)
    assert answer["prepared"][0] == "resized from 40x30 to 16x16"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict/other", b"[1]", 404, "unknown model 'other'"),
        ("/predict/camera?version=7", b"[1]", 404, "unknown version '7'"),
        ("/predict/camera", b"", 400, "empty"),
        ("/predict/camera", b"hello", 415, "none of a picture"),
        ("/predict/camera", b"[1]", 400, "1 dimensions instead of 4"),
        ("/predict/camera", b"[[[[0.5]]]]", 400, "takes no float64"),
        ("/predict/camera?top_k=-1", b"[1]", 400, "top_k"),
        ("/predict/camera?topk=3", b"[1]", 400, "did you mean 'top_k'"),
    ],
)
def test_a_bad_request_says_what_was_expected(
    cam: TestClient, path: str, body: bytes, status: int, message: str
) -> None:
    answer = cam.post(path, content=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_body_over_the_limit_is_413(camera: Path) -> None:
    with serving(camera, name="camera", max_body_mb=0.001) as (client, _):
        assert client.post("/predict/camera", content=b"x" * 2000).status_code == 413


def test_decoding_does_not_hold_up_the_event_loop(
    cam: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from edgekit.serve import http_predict

    seen = []
    read = http_predict.read_media

    def watched(body: bytes, limit: int) -> object:
        seen.append(threading.current_thread().name)
        return read(body, limit)

    monkeypatch.setattr(http_predict, "read_media", watched)
    assert cam.post("/predict/camera", content=encoded()).status_code == 200
    assert seen[0].startswith("asyncio_")


def test_the_schema_has_it_with_examples(cam: TestClient) -> None:
    operation = cam.get("/openapi.json").json()["paths"]["/predict/{model}"]["post"]
    assert {"image/jpeg", "audio/wav", "application/json", "multipart/form-data"} <= set(
        operation["requestBody"]["content"]
    )
    assert operation["responses"]["200"]["content"]["application/json"]["example"]["top"]
