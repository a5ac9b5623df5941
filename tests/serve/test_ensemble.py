"""Ensembles of small real models whose answers are known."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from edgekit.security import signature
from edgekit.security.protection import SecurityConfig
from edgekit.serve.config import ModelConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.grpc_server import start_grpc
from edgekit.serve.model import Model
from edgekit.serve.repository import Repository
from tests.serve.bundles import PLAIN, factor, put, run, started
from tests.serve.conftest import serving

#: x goes through double and triple at the same time, and what double makes through triple again.
TREE = """
inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]
steps:
  - {model: triple, inputs: {x: twice}, outputs: {y: six}}
  - {model: double, inputs: {x: x}, outputs: {y: twice}}
  - {model: triple, inputs: {x: x}, outputs: {y: thrice}}
outputs: [six, thrice]
"""
FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def _tree(scales: dict[int, Path], folder: Path, text: str = TREE) -> Path:
    put(scales[2], folder / "double.edge")
    put(scales[3], folder / "triple.edge")
    (folder / "tree.ensemble.yaml").write_text(text)
    return folder


def _reason(repository: Repository, name: str = "tree") -> str:
    (told,) = [one for one in repository.index() if one["name"] == name]
    return str(told["reason"])


def _gated(repository: Repository, name: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Has a model wait for the event before each run."""
    gate = threading.Event()
    servable = repository.find(name)
    assert isinstance(servable, Model)
    session = servable._workers[0].session
    good = session.run

    def slow(feeds: Any) -> Any:
        assert gate.wait(30)
        return good(feeds)

    monkeypatch.setattr(session, "run", slow)
    return gate


def test_where_signatures_are_asked_for_an_ensemble_needs_one_too(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    public = signature.keygen(tmp_path / "ours.key")
    folder = _tree(scales, tmp_path / "models")
    for name in ("double", "triple"):
        signature.sign(folder / f"{name}.edge" / "bundle.json", tmp_path / "ours.key")
    file = folder / "tree.ensemble.yaml"

    async def test() -> None:
        security = SecurityConfig(require_signature=public)
        async with started(folder, poll_s=0.02, security=security) as repository:
            assert "tree.ensemble.yaml: is not signed" in _reason(repository)
            signature.sign(file, tmp_path / "ours.key")
            while _reason(repository):
                await asyncio.sleep(0.01)
            answer = await repository.infer("tree", None, FEEDS)
            np.testing.assert_array_equal(answer.outputs["six"], 6 * FEEDS["x"])
            file.write_text(TREE.replace("thrice", "third"))
            while not _reason(repository):
                await asyncio.sleep(0.01)
            assert "not a signature of tree.ensemble.yaml by ours.key.pub" in _reason(repository)
            assert "thrice" in (await repository.infer("tree", None, FEEDS)).outputs

    run(test())


def test_the_steps_run_in_order_and_are_counted_by_their_models(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            answer = await repository.infer("tree", None, FEEDS)
            np.testing.assert_array_equal(answer.outputs["six"], 6 * FEEDS["x"])
            np.testing.assert_array_equal(answer.outputs["thrice"], 3 * FEEDS["x"])
            assert list(answer.outputs) == ["six", "thrice"]
            assert answer.stages.infer > 0
            assert repository.find("double").statistics.success.count == 1
            assert repository.find("triple").statistics.success.count == 2
            statistics = repository.find("tree").statistics
            assert (statistics.success.count, statistics.samples) == (1, 2)
            assert repository.pending == 0

    run(test())


def test_over_http_it_is_a_model_like_any_other(scales: dict[int, Path], tmp_path: Path) -> None:
    data = FEEDS["x"].ravel().tolist()
    body = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": data}]}
    with serving(_tree(scales, tmp_path), PLAIN) as (client, _):
        told = client.get("/v2/models/tree").json()
        assert told["platform"] == "ensemble"
        assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert [one["name"] for one in told["outputs"]] == ["six", "thrice"]
        wanted = {**body, "outputs": [{"name": "six"}]}
        answer = client.post("/v2/models/tree/versions/1/infer", json=wanted).json()
        assert [one["name"] for one in answer["outputs"]] == ["six"]
        assert answer["outputs"][0]["data"] == [6 * value for value in data]
        assert client.get("/v2/models/tree/ready").status_code == 200
        bad = {"inputs": [{**body["inputs"][0], "shape": [4, 2]}]}
        assert client.post("/v2/models/tree/infer", json=bad).status_code == 400


def test_steps_that_do_not_need_each_other_run_at_the_same_time(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            gate = _gated(repository, "double", monkeypatch)
            task = asyncio.create_task(repository.infer("tree", None, FEEDS))
            triple = repository.find("triple").statistics
            while not triple.success.count:  # step 3, while step 2 still runs
                await asyncio.sleep(0.001)
            assert not task.done()
            gate.set()
            np.testing.assert_array_equal((await task).outputs["six"], 6 * FEEDS["x"])

    run(test())


def test_requests_of_an_ensemble_are_batched_in_its_models(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            gate = _gated(repository, "double", monkeypatch)
            asked = [
                asyncio.create_task(repository.infer("tree", None, {"x": FEEDS["x"] + n}))
                for n in range(9)
            ]
            while repository.find("double").statistics.pending < 9:
                await asyncio.sleep(0.001)
            gate.set()
            for n, answer in enumerate(await asyncio.gather(*asked)):
                np.testing.assert_array_equal(answer.outputs["six"], 6 * (FEEDS["x"] + n))
            assert 16 in repository.find("double").statistics.batches  # 8 requests of 2 samples

    run(test())


def test_a_failing_step_is_named_and_the_others_are_called_off(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            gate = _gated(repository, "triple", monkeypatch)
            await repository.unload("double", dependents=True)
            await repository.load("tree")
            double = repository.find("double")
            assert isinstance(double, Model)

            def broken(*_: object) -> Any:
                raise RuntimeError("device lost")

            monkeypatch.setattr(double._workers[0].session, "run", broken)
            with pytest.raises(ServeError, match=r"step 2 \(model 'double'\): the inference fail"):
                await repository.infer("tree", None, FEEDS)
            assert repository.find("tree").statistics.failures == {"BACKEND": 1}
            assert repository.find("triple").statistics.failures == {"CANCELED": 1}
            gate.set()

    run(test())


def test_the_deadline_and_the_cancellation_reach_the_steps(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        models = {"tree": ModelConfig(timeout_ms=50)}
        async with started(_tree(scales, tmp_path), models) as repository:
            gate = _gated(repository, "double", monkeypatch)
            for deadline in (None, time.monotonic() + 0.02):
                with pytest.raises(ServeError, match=r"step 2 .* the deadline passed") as caught:
                    await repository.infer("tree", None, FEEDS, deadline=deadline)
                assert caught.value.status == 504
            long = time.monotonic() + 60
            task = asyncio.create_task(repository.infer("tree", None, FEEDS, deadline=long))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert repository.pending == 0
            assert repository.find("tree").statistics.failures == {"REJECTED": 2, "CANCELED": 1}
            gate.set()

    run(test())


def test_what_an_ensemble_took_is_answered_while_the_server_stops(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            gate = _gated(repository, "double", monkeypatch)
            task = asyncio.create_task(repository.infer("tree", None, FEEDS))
            await asyncio.sleep(0.01)
            closing = asyncio.create_task(repository.close())
            await asyncio.sleep(0.01)
            with pytest.raises(ServeError, match="stopping"):
                await repository.infer("tree", None, FEEDS)
            gate.set()
            np.testing.assert_array_equal((await task).outputs["six"], 6 * FEEDS["x"])
            await closing

    run(test())


def test_a_model_that_an_ensemble_needs_is_unloaded_only_with_it(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    put(scales[1], tmp_path / "other.edge")
    with serving(_tree(scales, tmp_path), PLAIN) as (client, repository):
        assert "model_repository(unload_dependents)" in client.get("/v2").json()["extensions"]
        unload = "/v2/repository/models/double/unload"
        answer = client.post(unload)
        assert answer.status_code == 409
        assert "needed by the ensemble tree" in answer.json()["error"]
        for parameters in ({"unload_dependents": 1}, 5):
            assert client.post(unload, json={"parameters": parameters}).status_code == 400
        assert client.get("/v2/models/tree/ready").status_code == 200
        done = client.post(unload, json={"parameters": {"unload_dependents": True}})
        assert done.status_code == 200
        assert {one.name for one in repository.servables()} == {"triple", "other"}
        assert client.post("/v2/repository/models/tree/load").status_code == 200  # and its models
        tree = "/v2/repository/models/tree/unload"
        assert client.post(tree, json={"parameters": {"unload_dependents": True}}).is_success
        assert {one.name for one in repository.servables()} == {"other"}


def test_over_grpc_it_is_unloaded_with_what_needs_it(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path)) as repository:
            server = await start_grpc(repository, "127.0.0.1", 0, limit=2**20)
            try:
                async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
                    with pytest.raises(InferenceServerException, match="by the ensemble tree") as e:
                        await client.unload_model("double")
                    assert e.value.status() == "StatusCode.FAILED_PRECONDITION"
                    await client.unload_model("double", unload_dependents=True)
            finally:
                await server.stop(0)
            assert {one.name for one in repository.servables()} == {"triple"}

    run(test())


def test_it_is_not_ready_when_a_model_of_it_is_not(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        folder = _tree(scales, tmp_path)
        async with started(folder, poll_s=0.03) as repository:
            assert await repository.find("tree").ready()
            shutil.rmtree(folder / "double.edge")
            while "double" in repository.entries:
                await asyncio.sleep(0.01)
            assert not await repository.find("tree").ready()
            assert not await repository.ready()
            with pytest.raises(ServeError, match=r"step 2 .*: unknown model 'double'") as caught:
                await repository.infer("tree", None, FEEDS)
            assert caught.value.status == 503
            while "'double'" not in _reason(repository):
                await asyncio.sleep(0.01)
            put(scales[2], folder / "double.edge")
            while _reason(repository) or not await repository.ready():
                await asyncio.sleep(0.01)
            answer = await repository.infer("tree", None, FEEDS)
            np.testing.assert_array_equal(answer.outputs["six"], 6 * FEEDS["x"])

    run(test())


def test_the_file_is_followed_and_a_bad_one_leaves_the_old(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _tree(scales, tmp_path)
        async with started(folder, poll_s=0.03) as repository:
            file = folder / "tree.ensemble.yaml"
            file.write_text(TREE.replace("{x: twice}", "{x: twize}"))
            while not _reason(repository):
                await asyncio.sleep(0.01)
            assert "tensor 'twize', which nothing makes" in _reason(repository)
            answer = await repository.infer("tree", None, FEEDS)
            np.testing.assert_array_equal(answer.outputs["six"], 6 * FEEDS["x"])
            file.write_text(TREE.replace("[six, thrice]", "[six, twice]"))
            while "twice" not in answer.outputs:
                answer = await repository.infer("tree", None, FEEDS)
                await asyncio.sleep(0.01)
            file.unlink()
            while "tree" in repository.entries:
                await asyncio.sleep(0.01)

    run(test())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: double", "model: dubble", "step 2 (model 'dubble'): there is no model 'dubble'"),
        ("model: double", "model: double, version: 7", "unknown version '7' of 'double'"),
        ("model: double", "model: tree", "'tree' is an ensemble itself"),
        ("model: double", "model: ../x", "'../x' cannot be the name of a model"),
        ("[-1, 4]", "[-1, 5]", "input 'x' has the shape [batch, 4], tensor 'x' has [batch, 5]"),
        ("FP32", "INT32", "input 'x' is float32, tensor 'x' is int32"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_in_the_index(
    scales: dict[int, Path], tmp_path: Path, old: str, new: str, message: str
) -> None:
    async def test() -> None:
        async with started(_tree(scales, tmp_path, TREE.replace(old, new))) as repository:
            assert message in _reason(repository)
            assert "\n" not in _reason(repository)
            assert not await repository.ready()
            assert await factor(repository, "double") == 2  # the others work

    run(test())


def test_two_ensembles_that_name_each_other_are_refused(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _tree(scales, tmp_path, TREE.replace("model: double", "model: other"))
        (folder / "other.ensemble.yaml").write_text(TREE.replace("model: double", "model: tree"))
        async with started(folder) as repository:
            assert "'other' is an ensemble itself" in _reason(repository)
            assert "'tree' is an ensemble itself" in _reason(repository, "other")

    run(test())


def test_a_bundle_and_an_ensemble_of_one_name_are_refused(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "tree.edge")
        async with started(_tree(scales, tmp_path)) as repository:
            assert "there is a bundle of the name 'tree', too" in _reason(repository)

    run(test())


def test_models_that_made_room_are_loaded_again_for_it(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        ten = PLAIN.model_copy(update={"memory_mb": 10})
        folder = _tree(scales, tmp_path)
        async with started(folder, defaults=ten, memory_mb=15) as repository:  # for one at a time
            assert await repository.find("tree").ready()
            serial = TREE.replace("outputs: [six, thrice]", "outputs: [six]").replace(
                "  - {model: triple, inputs: {x: x}, outputs: {y: thrice}}\n", ""
            )
            (folder / "tree.ensemble.yaml").write_text(serial)
            await repository.load("tree")
            for _ in range(2):
                answer = await repository.infer("tree", None, FEEDS)
                np.testing.assert_array_equal(answer.outputs["six"], 6 * FEEDS["x"])

    run(test())
