"""The memory budget with real bundles: who goes, who comes back, and what does not fit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.machine import resident
from edgekit.serve import loading
from edgekit.serve.errors import ServeError
from edgekit.serve.isolated import IsolatedSession
from edgekit.serve.model import Model
from edgekit.serve.repository import Repository
from tests.serve.bundles import PLAIN, factor, put, run, scale, started
from tests.serve.conftest import serving

#: As an operator would say it.
TEN = PLAIN.model_copy(update={"memory_mb": 10})


def _three(scales: dict[int, Path], folder: Path) -> Path:
    for name, which in (("a", 1), ("b", 2), ("c", 3)):
        put(scales[which], folder / f"{name}.edge")
    return folder


def _loaded(repository: Repository) -> set[str]:
    return {servable.name for servable in repository.servables()}


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose weights are 32 MB."""
    return scale(tmp_path_factory.mktemp("heavy") / "heavy.edge", 1, weights=8 * 2**20)


def test_the_least_recently_used_goes_and_comes_back_when_asked(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _three(scales, tmp_path)
        async with started(folder, defaults=TEN, memory_mb=20) as repository:
            assert _loaded(repository) == {"b", "c"}
            assert await repository.ready()  # what made room is no failure
            assert repository.size == 20 * 2**20
            await factor(repository, "b")
            assert await factor(repository, "a") == 1  # c goes: b was asked later
            assert _loaded(repository) == {"a", "b"}
            assert await factor(repository, "c") == 3
            assert _loaded(repository) == {"a", "c"}

    run(test())


def test_a_look_at_a_model_is_no_use_of_it(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        folder = _three(scales, tmp_path)
        async with started(folder, defaults=TEN, memory_mb=20) as repository:
            await factor(repository, "c")
            repository.find("b")
            await factor(repository, "a")
            assert _loaded(repository) == {"a", "c"}

    run(test())


def test_requests_that_wait_for_a_model_share_one_load(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        folder = _three(scales, tmp_path)
        async with started(folder, defaults=TEN, memory_mb=20) as repository:
            loads = 0
            load = loading.load

            def counted(*args: Any, **options: Any) -> Any:
                nonlocal loads
                loads += 1
                return load(*args, **options)

            monkeypatch.setattr(loading, "load", counted)
            answers = await asyncio.gather(*(factor(repository, "a") for _ in range(20)))
            assert answers == [1.0] * 20
            assert loads == 1

    run(test())


def test_a_client_that_gives_up_does_not_stop_the_load_for_others(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _three(scales, tmp_path)
        async with started(folder, defaults=TEN, memory_mb=20) as repository:
            first = asyncio.create_task(factor(repository, "a"))
            second = asyncio.create_task(factor(repository, "a"))
            await asyncio.sleep(0.005)
            assert repository.pending == 2
            first.cancel()
            assert await second == 1
            with pytest.raises(asyncio.CancelledError):
                await first
            assert repository.pending == 0

    run(test())


def test_the_deadline_holds_while_a_model_is_loaded(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        folder = _three(scales, tmp_path)
        async with started(folder, defaults=TEN, memory_mb=20) as repository:
            deadline = asyncio.get_running_loop().time() + 0.001
            with pytest.raises(ServeError, match="while model 'a' was loaded") as caught:
                await factor(repository, "a", deadline=deadline)
            assert caught.value.status == 504
            assert await factor(repository, "a") == 1

    run(test())


def test_a_model_that_does_not_fit_alone_is_refused_and_nobody_goes_for_it(
    scales: dict[int, Path], heavy: Path, tmp_path: Path
) -> None:
    put(scales[2], tmp_path / "small.edge")
    with serving(tmp_path, PLAIN, memory_mb=30) as (client, repository):
        put(heavy, tmp_path / "heavy.edge")
        answer = client.post("/v2/repository/models/heavy/load")
        assert answer.status_code == 400
        assert "needs about 32.0 MB" in answer.json()["error"]
        assert "the budget of 30 MB" in answer.json()["error"]
        assert _loaded(repository) == {"small"}
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0] * 4}]}
        answer = client.post("/v2/models/heavy/infer", json=body)
        assert answer.status_code == 503
        assert "needs about 32.0 MB" in answer.json()["error"]
        assert client.post("/v2/models/small/infer", json=body).status_code == 200


def test_an_evicted_model_that_no_longer_fits_is_503_until_it_does(
    scales: dict[int, Path], heavy: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "a.edge")
        place = put(scales[2], tmp_path / "b.edge")
        models = {"a": PLAIN.model_copy(update={"memory_mb": 25})}
        async with started(tmp_path, models, memory_mb=30) as repository:
            put(scales[3], tmp_path / "c.edge")
            await repository.unload("b")
            await repository.load("b")
            repository.entries["b"].evicted = True
            await repository._loader.drop(repository.entries["b"], ["1"])
            put(heavy, place)
            for _ in range(2):
                with pytest.raises(ServeError, match=r"needs about 32\.0 MB") as caught:
                    await factor(repository, "b")
                assert caught.value.status == 503
            put(scales[3], place)
            assert await factor(repository, "b") == 3

    run(test())


def test_a_loaded_model_counts_for_what_it_takes(heavy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        put(heavy, tmp_path / "heavy.edge")
        async with started(tmp_path) as repository:
            assert repository.size >= 32 * 2**20
            await repository.unload("heavy")
            assert repository.size == 0
            await repository.load("heavy")  # into memory that the process has already, perhaps
            assert repository.size >= 32 * 2**20

    run(test())


def test_the_old_bundle_counts_until_the_new_one_works(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        place = put(scales[1], tmp_path / "a.edge")
        async with started(tmp_path, defaults=TEN, memory_mb=15) as repository:
            put(scales[2], place)
            with pytest.raises(ServeError, match=r"beside the 10\.0 MB of what serves"):
                await repository.load("a")
            assert await factor(repository, "a") == 1

    run(test())


def test_a_model_that_is_being_loaded_is_not_evicted(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    """Two loads that would each evict what the other has must not wait for each other."""

    async def test() -> None:
        for name in ("a", "b"):
            put(scales[1], tmp_path / f"{name}.edge")
        async with started(tmp_path, defaults=TEN, memory_mb=30) as repository:
            for name in ("a", "b"):
                put(scales[2], tmp_path / f"{name}.edge")
            results = await asyncio.gather(
                repository.load("a"), repository.load("b"), return_exceptions=True
            )
            assert results.count(None) >= 1
            assert all(result is None or "budget" in str(result) for result in results)

    run(test())


def test_an_isolated_engine_counts_with_its_own_process(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "a.edge")
        async with started(tmp_path, isolate=True) as repository:
            model = repository.find("a")
            assert isinstance(model, Model)
            session = model._workers[0].session
            assert isinstance(session, IsolatedSession)
            own = resident(session.pid)
            assert own > 20 * 2**20
            assert repository.size == pytest.approx(own, rel=0.2, abs=20 * 2**20)
            assert repository.size >= 0.9 * own

    run(test())


CYCLES = """
import asyncio, sys
from pathlib import Path
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.machine import resident
from edgekit.serve.repository import Repository

async def main(folder, runtime):
    model = ModelConfig(runtime=runtime, threads=1, warmup=1)
    repository = Repository(Path(folder), ServerConfig(defaults=model, poll_s=0))
    await repository.start()
    sizes = []
    for cycle in range(110):
        await repository.unload("heavy")
        if cycle >= 9:
            sizes.append(resident())
        await repository.load("heavy")
        assert await repository.ready()
    await repository.close()
    print(sizes[0], sizes[-1])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_100_loads_and_unloads_leave_no_memory_behind(runtime: str, tmp_path: Path) -> None:
    """Measured in a process that holds nothing else, after ten cycles that fill the caches."""
    scale(tmp_path / "heavy.edge", 1, runtime, weights=2**20)
    done = subprocess.run(
        [sys.executable, "-c", CYCLES, str(tmp_path), runtime],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    before, after = map(int, done.stdout.split())
    assert after < 1.05 * before, f"{before / 2**20:.1f} MB -> {after / 2**20:.1f} MB"
