from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from edgekit.serve.errors import ServeError
from edgekit.serve.grpc_server import start_grpc
from edgekit.serve.routing import choose
from tests.serve.bundles import PLAIN, factor, put, run, started
from tests.serve.conftest import serving

WEIGHTS = {"1": 0.7, "2": 0.2, "3": 0.1}
MANY = 20_000


@pytest.mark.parametrize("sticky", [False, True])
def test_every_version_gets_its_share(sticky: bool) -> None:
    random.seed(0)
    asked = [f"user-{n}" if sticky else None for n in range(MANY)]
    counts = Counter(choose(["1", "2", "3"], WEIGHTS, session) for session in asked)
    for version, share in WEIGHTS.items():
        spread = (share * (1 - share) / MANY) ** 0.5
        assert abs(counts[version] / MANY - share) < 4 * spread


@pytest.mark.parametrize("session", [None, "someone"])
def test_weights_that_say_nothing_leave_the_newest(session: str | None) -> None:
    for weights in ({}, {"1": 0.0, "2": 0.0}, {"9": 1.0}):
        assert choose(["1", "2"], weights, session) == "2"


def test_a_weight_of_zero_or_none_gets_nothing() -> None:
    random.seed(0)
    sessions = [None, *map(str, range(2000))]
    chosen = {choose(["1", "2", "3"], {"1": 0.0, "2": 5.0}, one) for one in sessions}
    assert chosen == {"2"}


def test_a_session_keeps_its_version_unless_that_loses_share_or_goes() -> None:
    sessions = [f"user-{n}" for n in range(2000)]
    before = {one: choose(["1", "2"], {"1": 0.9, "2": 0.1}, one) for one in sessions}
    again = {one: choose(["1", "2"], {"1": 0.9, "2": 0.1}, one) for one in sessions}
    assert again == before
    grown = {one: choose(["1", "2"], {"1": 0.7, "2": 0.3}, one) for one in sessions}
    assert all(grown[one] == "2" for one in sessions if before[one] == "2")
    third = {one: choose(["1", "2", "3"], {"1": 0.9, "2": 0.1, "3": 1}, one) for one in sessions}
    assert all(third[one] in {before[one], "3"} for one in sessions)


def _two_versions(scales: dict[int, Path], tmp_path: Path) -> Path:
    put(scales[1], tmp_path / "scale" / "1")
    put(scales[2], tmp_path / "scale" / "2")
    return tmp_path


def test_a_named_version_wins_over_the_weights(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        config = {"scale": PLAIN.model_copy(update={"weights": {"1": 0.0, "2": 1.0}})}
        async with started(_two_versions(scales, tmp_path), config) as repository:
            assert await factor(repository, "scale", "1") == 1
            assert {await factor(repository, "scale") for _ in range(20)} == {2}

    run(test())


def test_a_weighted_version_that_is_not_loaded_gets_nothing(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _two_versions(scales, tmp_path)
        (folder / "scale" / "2" / "model.onnx").write_bytes(b"damaged")
        config = {"scale": PLAIN.model_copy(update={"weights": {"1": 0.1, "2": 0.9}})}
        async with started(folder, config) as repository:
            assert {await factor(repository, "scale") for _ in range(20)} == {1}
            with pytest.raises(ServeError, match=r"model\.onnx") as caught:
                await factor(repository, "scale", "2")
            assert caught.value.status == 503

    run(test())


def test_requests_with_one_session_id_get_one_version(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    random.seed(0)
    model = PLAIN.model_copy(update={"weights": {"1": 0.5, "2": 0.5}})
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0] * 4}]}
    with serving(_two_versions(scales, tmp_path), model) as (client, _):

        def version(session: str | None) -> str:
            headers = {} if session is None else {"X-Session-Id": session}
            answer = client.post("/v2/models/scale/infer", json=body, headers=headers).json()
            assert answer["outputs"][0]["data"] == [float(answer["model_version"])] * 4
            return str(answer["model_version"])

        assert {version(None) for _ in range(20)} == {"1", "2"}
        of_each = {name: {version(name) for _ in range(4)} for name in "abcdef"}
    assert all(len(versions) == 1 for versions in of_each.values())
    assert len(set.union(*of_each.values())) == 2


def test_the_session_id_counts_over_grpc_too(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        config = {"scale": PLAIN.model_copy(update={"weights": {"1": 0.5, "2": 0.5}})}
        async with started(_two_versions(scales, tmp_path), config) as repository:
            server = await start_grpc(repository, "127.0.0.1", 0, limit=2**20)
            feed = triton.InferInput("x", [1, 4], "FP32")
            feed.set_data_from_numpy(np.ones((1, 4), np.float32))
            try:
                async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
                    for session in "abcdef" * 3:
                        wanted = await factor(repository, "scale", session=session)
                        headers = {"x-session-id": session}
                        answer = await client.infer("scale", [feed], headers=headers)
                        assert answer.as_numpy("y")[0, 0] == wanted
            finally:
                await server.stop(0)

    run(test())
