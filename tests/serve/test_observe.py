from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from edgekit.serve.app import create_app
from edgekit.serve.config import ServerConfig
from edgekit.serve.observe import Observer, Served
from edgekit.serve.repository import Repository
from tests.serve.conftest import ONE

ENTRY = {"name": "image", "shape": [1, 3, 16, 16], "datatype": "FP32", "data": [0.5] * 768}
REQUEST = {"inputs": [ENTRY]}
INFER = "/v2/models/residual/infer"


@pytest.fixture
def records() -> list[Served]:
    return []


@pytest.fixture
def watched(built: Path, records: list[Served]) -> Iterator[TestClient]:
    config = ServerConfig(defaults=ONE)
    app = create_app(Repository(built, config, "residual"), config)
    with TestClient(Observer(app, [records.append]), raise_server_exceptions=False) as client:
        yield client


def test_an_inference_is_recorded_with_its_model_and_stages(
    watched: TestClient, records: list[Served]
) -> None:
    assert watched.post(INFER, json=REQUEST).status_code == 200
    (record,) = records
    assert (record.method, record.path, record.status) == ("POST", INFER, 200)
    assert record.route == "/v2/models/{model}/infer"
    assert record.model == ("residual", "1")
    assert record.client == "testclient"
    assert record.inference is not None
    assert 0 < record.inference.stages.infer < record.inference.stages.total < record.ns


@pytest.mark.parametrize(
    ("method", "path", "status", "route", "model"),
    [
        ("GET", "/v2/health/live", 200, "/v2/health/live", (None, None)),
        ("POST", "/v2/models/x/versions/3/infer", 404, None, ("x", "3")),
        ("POST", INFER, 400, "/v2/models/{model}/infer", ("residual", None)),
        ("POST", "/predict/residual", 400, "/predict/{model}", ("residual", None)),
        ("GET", "/nowhere", 404, "", (None, None)),
    ],
)
def test_every_other_request_is_recorded_too(
    watched: TestClient,
    records: list[Served],
    method: str,
    path: str,
    status: int,
    route: str | None,
    model: tuple[str | None, str | None],
) -> None:
    assert watched.request(method, path).status_code == status
    (record,) = records
    assert record.status == status
    assert record.model == model
    assert record.route == (route or record.route)


def test_a_good_request_id_is_taken_and_echoed(watched: TestClient, records: list[Served]) -> None:
    for path in (INFER, "/v2", "/nowhere"):
        answer = watched.post(path, json=REQUEST, headers={"X-Request-Id": "abc-1.2_~!"})
        assert answer.headers.get_list("x-request-id") == ["abc-1.2_~!"]
    assert {record.id for record in records} == {"abc-1.2_~!"}


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, b"caf\xc3\xa9", "tab\there"])
def test_another_one_is_made(
    watched: TestClient, records: list[Served], given: str | bytes | None
) -> None:
    headers: Any = {} if given is None else {"X-Request-Id": given}
    first, second = (watched.get("/v2", headers=headers).headers["x-request-id"] for _ in range(2))
    assert len(first) == 32
    assert first != second
    assert [record.id for record in records] == [first, second]


def test_a_client_that_hangs_up_is_recorded_as_499(records: list[Served]) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    asyncio.run(Observer(silent, [records.append])(scope, receive, send))
    assert [(record.status, record.client) for record in records] == [(499, "")]


def test_what_fails_is_recorded_and_raised(records: list[Served]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(Observer(broken, [records.append])(scope, None, None))
    assert len(records) == 1
