from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.serve.config import ModelConfig
from edgekit.serve.model import Inference, Model
from edgekit.serve.repository import Repository
from edgekit.serve.response_cache import ResponseCache
from edgekit.serve.statistics import Stages, Statistics
from edgekit.spec import Array, Outputs, TensorSpec
from tests.serve.bundles import PLAIN, factor, put, run, started

CACHED = PLAIN.model_copy(update={"cache": 2**20})
X = (TensorSpec("x", "float32", ("batch", 4)),)


async def _ask(repository: Repository, x: Array) -> Inference:
    return await repository.infer("scale", None, {"x": x})


def _model(repository: Repository) -> Model:
    servable = repository.find("scale")
    assert isinstance(servable, Model)
    return servable


def test_an_equal_request_is_computed_once(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        put(scales[2], tmp_path / "scale.edge")
        async with started(tmp_path, {"scale": CACHED}) as repository:
            x = np.arange(8, dtype=np.float32).reshape(2, 4)
            first = await _ask(repository, x)
            second = await _ask(repository, np.asfortranarray(x))  # the same in another layout
            np.testing.assert_array_equal(second.outputs["y"], 2 * x)
            np.testing.assert_array_equal(first.outputs["y"], second.outputs["y"])
            statistics = _model(repository).statistics
            assert sum(count.infer.count for count in statistics.batches.values()) == 1
            assert (statistics.cache_hit.count, statistics.cache_miss.count) == (1, 1)
            assert statistics.cache_hit.ns > 0
            assert statistics.cache_miss.ns > 0
            assert statistics.success.count == 2
            assert statistics.samples == 2  # inferences: the hit is none

    run(test())


def test_it_is_off_unless_set(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        put(scales[2], tmp_path / "scale.edge")
        async with started(tmp_path) as repository:
            for _ in range(2):
                await factor(repository, "scale")
            statistics = _model(repository).statistics
            assert statistics.batches[1].infer.count == 2
            assert statistics.cache_miss.count == 0

    run(test())


def test_an_answer_cannot_be_changed_for_those_who_get_it_next(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        put(scales[3], tmp_path / "scale.edge")
        async with started(tmp_path, {"scale": CACHED}) as repository:
            x = np.ones((1, 4), np.float32)
            first = await _ask(repository, x)
            first.outputs["y"][:] = 99  # its own
            second = await _ask(repository, x)
            with pytest.raises(ValueError, match="read-only"):
                second.outputs["y"][:] = 99
            second.outputs.clear()
            np.testing.assert_array_equal((await _ask(repository, x)).outputs["y"], 3 * x)

    run(test())


def test_a_new_bundle_starts_with_an_empty_cache(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path, {"scale": CACHED}) as repository:
            assert await factor(repository, "scale") == 1
            put(scales[2], tmp_path / "scale.edge")
            await repository.load("scale")
            assert await factor(repository, "scale") == 2

    run(test())


def test_failures_are_not_kept(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path, {"scale": CACHED}) as repository:
            model = _model(repository)
            session = model._workers[0].session

            def broken(*_: object) -> Outputs:
                raise RuntimeError("device lost")

            with monkeypatch.context() as patch:
                patch.setattr(session, "run", broken)
                with pytest.raises(Exception, match="the inference failed"):
                    await factor(repository, "scale")
            assert model.responses is not None
            assert len(model.responses) == 0
            assert await factor(repository, "scale") == 1

    run(test())


def _cache(limit: int = 2**20, identity: tuple[str, ...] = ("m", "1", "sha")) -> ResponseCache:
    return ResponseCache(limit, identity, X, Statistics())


def test_another_model_version_or_artifact_has_other_keys() -> None:
    feeds = {"x": np.ones((1, 4), np.float32)}
    identities = [("m", "1", "a"), ("n", "1", "a"), ("m", "2", "a"), ("m", "1", "b")]
    assert len({_cache(identity=one)._key(feeds) for one in identities}) == 4


@pytest.mark.parametrize(
    "other",
    [
        np.array([[1, 2, 3, 5]], np.float32),
        np.array([[1], [2], [3], [4]], np.float32),
        np.array([[1, 2, 3, 4]], np.float32).view(np.int32),
        np.array([1, 2, 3, 4], np.float32),
    ],
    ids=["bytes", "shape", "dtype", "rank"],
)
def test_other_inputs_have_other_keys(other: Array) -> None:
    cache = _cache()
    assert cache._key({"x": np.array([[1, 2, 3, 4]], np.float32)}) != cache._key({"x": other})


def test_the_names_of_the_inputs_count_and_their_order_does_not() -> None:
    specs = (TensorSpec("a", "float32", (1,)), TensorSpec("b", "float32", (1,)))
    cache = ResponseCache(1, ("m",), specs, Statistics())
    one, two = np.ones(1, np.float32), np.zeros(1, np.float32)
    assert cache._key({"a": one, "b": two}) == cache._key({"b": two, "a": one})
    assert cache._key({"a": one, "b": two}) != cache._key({"a": two, "b": one})


async def _fill(cache: ResponseCache, value: float, size: int = 1000) -> bool:
    """Ask for one answer of about ``size`` bytes; whether it was computed."""
    computed = False

    async def compute() -> tuple[Outputs, Stages]:
        nonlocal computed
        computed = True
        return {"y": np.zeros(size // 4, np.float32)}, Stages(batch=1)

    await cache.answer({"x": np.full((1, 4), value, np.float32)}, compute)
    return computed


def test_the_least_recently_used_goes_and_the_bytes_stay_within_the_limit() -> None:
    async def test() -> None:
        cache = _cache(limit=5000)
        for value in range(3):
            assert await _fill(cache, value)
        assert not await _fill(cache, 0)  # used again: 1 is the oldest now
        await _fill(cache, 3)
        assert len(cache) == 3
        assert cache.size <= 5000
        assert not await _fill(cache, 0)
        assert await _fill(cache, 1)

    run(test())


def test_an_answer_larger_than_the_cache_is_not_kept_and_pushes_nothing_out() -> None:
    async def test() -> None:
        cache = _cache(limit=5000)
        await _fill(cache, 0)
        await _fill(cache, 1, size=6000)
        assert len(cache) == 1
        assert not await _fill(cache, 0)

    run(test())


def test_equal_requests_at_the_same_time_are_all_answered() -> None:
    async def test() -> None:
        cache = _cache()
        await asyncio.gather(*(_fill(cache, 0) for _ in range(5)))
        assert len(cache) == 1
        once = cache.size
        assert not await _fill(cache, 0)
        assert cache.size == once

    run(test())


def test_large_inputs_are_hashed_in_a_thread_with_the_same_result() -> None:
    async def test() -> None:
        specs = (TensorSpec("x", "bfloat16", ("batch", 2**20)),)
        cache = ResponseCache(2**20, ("m",), specs, Statistics())
        x: dict[str, Any] = {"x": np.ones((1, 2**20), "bfloat16")}

        async def compute() -> tuple[Outputs, Stages]:
            return {"y": np.ones(1, np.float32)}, Stages(batch=1)

        await cache.answer(x, compute)
        _, stages = await cache.answer(x, compute)
        assert stages.batch == 0
        assert stages.queue > 0

    run(test())


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        ModelConfig(cache=-1)
