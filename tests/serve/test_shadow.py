from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.serve.model import Model
from edgekit.serve.repository import Repository
from edgekit.serve.shadow import Comparison
from edgekit.spec import Array
from tests.serve.bundles import PLAIN, factor, put, run, started
from tests.serve.conftest import serving

SHADOWED = {"scale": PLAIN.model_copy(update={"shadow": "2"})}


def _versions(scales: dict[int, Path], folder: Path, *factors: int) -> Path:
    for version, which in enumerate(factors, 1):
        put(scales[which], folder / "scale" / str(version))
    return folder


def _comparison(repository: Repository, beside: str = "1") -> Comparison:
    shadow = repository.entries["scale"].shadow
    assert shadow is not None
    return shadow.comparisons.setdefault(beside, Comparison())


async def _compared(repository: Repository, count: int) -> Comparison:
    while (comparison := _comparison(repository)).compared < count:
        await asyncio.sleep(0.001)
    return comparison


def _model(repository: Repository, version: str) -> Model:
    servable = repository.find("scale", version)
    assert isinstance(servable, Model)
    return servable


def test_what_the_shadow_computes_is_compared_and_never_answered(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        async with started(folder, SHADOWED) as repository:
            for sent in range(1, 11):  # one by one: a shadow that is behind is left out
                assert await factor(repository, "scale") == 1
                comparison = await _compared(repository, sent)
            assert comparison.identical == 0
            close = comparison.outputs["y"]
            assert close.max_abs == 1  # 2 x 1 instead of 1
            assert close.sqnr_db == pytest.approx(0)  # the error is as large as the signal
            assert close.cosine == pytest.approx(1)
            assert close.argmax_agreement == 1
            assert _model(repository, "2").statistics.success.count == 10

    run(test())


def test_equal_versions_are_identical(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 3, 3)
        async with started(folder, SHADOWED) as repository:
            for _ in range(3):
                assert await factor(repository, "scale") == 3
            comparison = await _compared(repository, 3)
            assert comparison.identical == 3
            assert comparison.outputs["y"].max_abs == 0

    run(test())


def test_requests_that_name_a_version_are_not_shadowed(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        async with started(folder, SHADOWED) as repository:
            assert await factor(repository, "scale", "2") == 2
            assert await factor(repository, "scale", "1") == 1
            await asyncio.sleep(0.05)
            assert _comparison(repository).compared == 0

    run(test())


def test_a_shadow_that_fails_costs_the_client_nothing_and_is_counted(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        async with started(folder, SHADOWED) as repository:

            def broken(*_: object) -> Any:
                raise RuntimeError("device lost")

            monkeypatch.setattr(_model(repository, "2")._workers[0].session, "run", broken)
            assert await factor(repository, "scale") == 1
            while not _comparison(repository).failed:
                await asyncio.sleep(0.001)
            assert "the inference failed" in _comparison(repository).last_error
            assert _model(repository, "1").statistics.failures == {}

    run(test())


def test_a_shadow_that_hangs_delays_nobody_and_what_it_cannot_take_is_dropped(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        async with started(folder, SHADOWED) as repository:
            gate = threading.Event()
            session = _model(repository, "2")._workers[0].session
            good = session.run

            def slow(feeds: Any) -> Any:
                assert gate.wait(30)
                return good(feeds)

            monkeypatch.setattr(session, "run", slow)
            for _ in range(50):
                assert await factor(repository, "scale") == 1
            await asyncio.sleep(0)
            comparison = _comparison(repository)
            assert comparison.compared == 0
            assert comparison.dropped == 50 - 8
            gate.set()
            await _compared(repository, 8)

    run(test())


def test_a_shadow_that_is_not_loaded_drops_every_request(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        (folder / "scale" / "2" / "model.onnx").write_bytes(b"damaged")
        async with started(folder, SHADOWED) as repository:
            assert await factor(repository, "scale") == 1
            while not _comparison(repository).dropped:
                await asyncio.sleep(0.001)

    run(test())


def test_the_comparison_starts_anew_with_a_new_bundle(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _versions(scales, tmp_path, 1, 2)
        async with started(folder, SHADOWED) as repository:
            await factor(repository, "scale")
            await _compared(repository, 1)
            put(scales[1], folder / "scale" / "2")
            await repository.load("scale")
            await factor(repository, "scale")
            comparison = await _compared(repository, 1)
            assert (comparison.compared, comparison.identical) == (1, 1)

    run(test())


@pytest.mark.parametrize(
    "other",
    [
        {"y": np.ones((2, 1), np.float32)},
        {"y": np.ones((1, 2), np.float64)},
        {"z": np.ones((1, 2), np.float32)},
        {"y": np.array([[1, np.nan]], np.float32)},
    ],
    ids=["shape", "dtype", "name", "nan"],
)
def test_outputs_that_cannot_be_compared_are_counted(other: dict[str, Array]) -> None:
    comparison = Comparison()
    comparison.add({"y": np.ones((1, 2), np.float32)}, other)
    assert (comparison.compared, comparison.incomparable, comparison.outputs) == (1, 1, {})


def test_the_route_tells_it(scales: dict[int, Path], tmp_path: Path) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0] * 4}]}
    folder = _versions(scales, tmp_path, 1, 1)
    put(scales[1], folder / "plain.edge")
    with serving(folder, PLAIN, models=SHADOWED) as (client, _):
        assert client.post("/v2/models/scale/infer", json=body).status_code == 200
        told = client.get("/v2/models/scale/shadow").json()
        while not told["beside"]["1"]["compared"]:
            told = client.get("/v2/models/scale/shadow").json()
        assert told["version"] == "2"
        assert told["beside"]["1"]["identical"] == 1
        assert told["beside"]["1"]["outputs"]["y"]["max_abs"] == 0
        assert told["beside"]["1"]["outputs"]["y"]["sqnr_db"] is None  # infinite
        for name, message in (("plain", "has no shadow"), ("none", "unknown model")):
            answer = client.get(f"/v2/models/{name}/shadow")
            assert answer.status_code == 404
            assert message in answer.json()["error"]
