from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from edgekit.serve.repository import Repository
from edgekit.serve.statistics import STAGES
from tests.serve.conftest import serving

MODEL = {"model": "residual", "version": "1"}


@pytest.fixture
def served(built: Path) -> Iterator[tuple[TestClient, Repository]]:
    with serving(built, name="residual") as served:
        yield served


def infer(client: TestClient, samples: int = 1, **more: Any) -> Any:
    entry = {"name": "image", "shape": [samples, 3, 16, 16], "datatype": "FP32"}
    request = {"inputs": [{**entry, "data": [0.5] * samples * 768}], **more}
    return client.post("/v2/models/residual/infer", json=request)


def scraped(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scrape gives. The parser ends every counter's name in ``_total``."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name.removesuffix("_total"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset({**MODEL, **labels}.items())]


def test_metrics_count_what_was_served(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    for samples in (1, 1, 3):
        assert infer(client, samples).status_code == 200
    assert infer(client, parameters={"priority": 99}).status_code == 400
    found = scraped(client)
    assert value(found, "nv_inference_request_success") == 3
    assert value(found, "nv_inference_count") == 5
    assert value(found, "nv_inference_exec_count") == 3
    assert value(found, "nv_inference_pending_request_count") == 0
    assert value(found, "nv_inference_compute_infer_duration_us") > 0
    assert value(found, "edgekit_batch_size_bucket", le="1") == 2
    assert value(found, "edgekit_batch_size_bucket", le="2") == 2
    assert value(found, "edgekit_batch_size_bucket", le="4") == 3
    assert value(found, "edgekit_batch_size_bucket", le="+Inf") == 3
    assert value(found, "edgekit_batch_size_sum") == 5
    assert value(found, "edgekit_queue_length") == 0


def test_metrics_agree_with_the_statistics_extension(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    for _ in range(5):
        infer(client)
    told = client.get("/v2/models/residual/stats").json()["model_stats"][0]["inference_stats"]
    found = scraped(client)
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert value(found, f"nv_inference_{stage}_duration_us") == told[stage]["ns"] // 1000


def test_failures_are_counted_by_reason(
    served: tuple[TestClient, Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, repository = served

    def broken(*_: object) -> None:
        raise RuntimeError("device lost")

    with monkeypatch.context() as patch:
        patch.setattr(repository.find("residual")._workers[0].session, "run", broken)  # type: ignore[attr-defined]
        assert infer(client).status_code == 500
        found = scraped(client)
        assert value(found, "nv_inference_request_failure", reason="BACKEND") == 1
        assert value(found, "nv_inference_request_failure", reason="REJECTED") == 0
        assert value(found, "edgekit_model_ready") == 0
    assert value(scraped(client), "edgekit_model_ready") == 1


def test_quantiles_appear_when_there_are_requests_enough(
    served: tuple[TestClient, Repository],
) -> None:
    client, _ = served
    for _ in range(12):
        infer(client)
    found = scraped(client)
    assert value(found, "nv_inference_request_summary_us", quantile="0.5") > 0
    assert np.isnan(value(found, "nv_inference_request_summary_us", quantile="0.99"))
    assert value(found, "edgekit_stage_summary_us", quantile="0.5", stage="infer") > 0
    whole = value(found, "nv_inference_request_summary_us", quantile="0.5")
    assert 0 < value(found, "edgekit_overhead_summary_us", quantile="0.5") < whole


def test_the_machine_and_the_process_are_told(served: tuple[TestClient, Repository]) -> None:
    found = scraped(served[0])
    used = found["nv_cpu_memory_used_bytes", frozenset()]
    assert 0 < used < found["nv_cpu_memory_total_bytes", frozenset()]
    assert 10e6 < found["process_resident_memory_bytes", frozenset()] <= used * 1.5
    assert found["process_cpu_seconds", frozenset()] > 0


def test_loads_and_unloads_are_told(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    assert client.post("/v2/repository/models/residual/unload").status_code == 200
    found = scraped(client)
    assert value(found, "edgekit_model_ready") == 0
    assert ("nv_inference_count", frozenset(MODEL.items())) not in found
    assert client.post("/v2/repository/models/residual/load").status_code == 200
    found = scraped(client)
    assert value(found, "edgekit_model_ready") == 1
    assert value(found, "edgekit_model_loads") == 2


def test_an_isolated_engine_s_restarts_and_memory_are_told(built: Path) -> None:
    with serving(built, name="residual", isolate=True) as (client, repository):
        assert infer(client).status_code == 200
        before = scraped(client)
        assert value(before, "edgekit_engine_restarts") == 0
        assert value(before, "edgekit_engine_memory_bytes") > 10e6
        repository.find("residual")._workers[0].session.kill()  # type: ignore[attr-defined]
        assert infer(client).status_code == 503
        assert infer(client).status_code == 200
        assert value(scraped(client), "edgekit_engine_restarts") == 1


@pytest.mark.parametrize("name", ['a"b\\c\nd', "{x=1}", "ünï\r"])
def test_hostile_names_of_models_break_no_line(built: Path, name: str) -> None:
    with serving(built, name=name) as (client, _):
        found = scraped(client)
    labels = frozenset({"model": name, "version": "1"}.items())
    assert found["edgekit_model_ready", labels] == 1


@pytest.mark.parametrize("path", ["/v2/models/residual", "/v2/models/residual/versions/1"])
def test_the_profile_tells_of_the_last_requests(
    served: tuple[TestClient, Repository], path: str
) -> None:
    client, _ = served
    for _ in range(15):
        infer(client)
    told = client.get(f"{path}/profile?last=12").json()
    assert (told["name"], told["version"], told["unit"]) == ("residual", "1", "us")
    rows = told["requests"]
    assert rows["count"] == 12
    assert all(rows["stages"][stage]["p50"] > 0 for stage in ("parse", "infer", "serialise"))
    assert rows["total"]["p99"] is None
    assert "662 are needed" in rows["notes"]["p99"]
    assert told["recent"]["count"] == 15
    means = sum(row["mean"] for row in rows["stages"].values())
    assert rows["total"]["mean"] == pytest.approx(means)
    assert rows["overhead"]["mean"] == pytest.approx(means - rows["stages"]["infer"]["mean"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("other/profile", 404),
        ("residual/versions/9/profile", 404),
        ("residual/profile?last=0", 400),
        ("residual/profile?seconds=no", 400),
        ("residual/profile?seconds=nan", 400),
    ],
)
def test_a_wrong_question_is_answered_with_an_error(
    served: tuple[TestClient, Repository], path: str, status: int
) -> None:
    answer = served[0].get(f"/v2/models/{path}")
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}


def test_an_unloaded_model_has_no_profile(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    client.post("/v2/repository/models/residual/unload")
    assert client.get("/v2/models/residual/profile").status_code == 503


def test_being_looked_at_is_not_being_used(served: tuple[TestClient, Repository]) -> None:
    client, repository = served
    used = repository.entries["residual"].used
    client.get("/v2/models/residual/profile")
    client.get("/metrics")
    assert repository.entries["residual"].used == used


def test_the_server_does_not_need_prometheus_client() -> None:
    code = "import sys, edgekit.serve.server; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_request_may_ask_for_its_own_stages(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    answer = infer(client, 2, parameters={"profile": True}).json()
    told = answer["parameters"]
    taken = [told[f"{stage}_ns"] for stage in STAGES]
    assert all(isinstance(ns, int) and ns > 0 for ns in (told["parse_ns"], told["serialise_ns"]))
    assert told["total_ns"] == sum(taken)
    assert told["batch"] == 2
    assert answer["outputs"] == infer(client, 2).json()["outputs"]
    assert "parameters" not in infer(client).json()


def test_its_stages_come_with_binary_tensors_too(served: tuple[TestClient, Repository]) -> None:
    client, _ = served
    plain = infer(client, parameters={"binary_data_output": True})
    told = infer(client, parameters={"binary_data_output": True, "profile": True})
    length = int(told.headers["Inference-Header-Content-Length"])
    assert json.loads(told.content[:length])["parameters"]["infer_ns"] > 0
    before = int(plain.headers["Inference-Header-Content-Length"])
    assert told.content[length:] == plain.content[before:]


@pytest.mark.parametrize("flag", [1, "yes", "true"])
def test_the_flag_for_it_is_checked(served: tuple[TestClient, Repository], flag: object) -> None:
    answer = infer(served[0], parameters={"profile": flag})
    assert answer.status_code == 400
    assert "'profile' must be true or false" in answer.json()["error"]
