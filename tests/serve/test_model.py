from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import SpecError
from edgekit.serve import model as module
from edgekit.serve.config import ModelConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.model import Model
from edgekit.verify import Reference
from tests.serve.doubling import Doubling, feeds


@asynccontextmanager
async def model(bundle: Bundle, **config: Any) -> AsyncIterator[tuple[Model, Doubling]]:
    session = Doubling()
    right = [{"y": 2 * feeds(value)["x"]} for value in (1, 2)]
    made = Model(
        "doubling",
        "1",
        artifact=bundle.manifest.artifacts[0],
        inputs=Doubling.inputs,
        outputs=Doubling.outputs,
        sessions=[session],
        reference=Reference([feeds(1), feeds(2)], right, ["data", "data"]),
        config=ModelConfig(**config),
    )
    yield made, session
    session.gate.set()
    await made.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def _busy(session: Doubling, runs: int) -> None:
    while len(session.shapes) < runs:
        await asyncio.sleep(0.001)


def test_an_answer_tells_how_long_each_stage_took(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle) as (made, _):
            answer = await made.infer(feeds(3))
            assert answer.outputs["y"][0, 0] == 6
            assert answer.model is made
            assert answer.stages.infer > 0
            assert answer.stages.batch == 1
            assert made.statistics.success.count == made.statistics.samples == 1

    run(work())


def test_feeds_that_do_not_fit_never_reach_the_engine(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle) as (made, session):
            with pytest.raises(SpecError, match="dtype is float64"):
                await made.infer({"x": feeds(1)["x"].astype("float64")})
            assert session.shapes == []

    run(work())


def test_a_priority_that_does_not_exist_is_refused(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle, priority_levels=2) as (made, _):
            with pytest.raises(ServeError, match="priority 3 does not exist") as caught:
                await made.infer(feeds(1), priority=3)
            assert caught.value.status == 400

    run(work())


def test_requests_without_a_deadline_get_the_model_s(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle, timeout_ms=50) as (made, session):
            session.gate.clear()
            with pytest.raises(ServeError) as caught:
                await made.infer(feeds(1))
            assert caught.value.status == 504
            assert made.statistics.failures == {"REJECTED": 1}

    run(work())


def test_a_success_of_late_makes_ready_without_a_canary(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle) as (made, session):
            await made.infer(feeds(1))
            assert await made.ready()
            assert len(session.shapes) == 1

    run(work())


def test_without_a_success_of_late_a_canary_is_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 0.0)

    async def work() -> None:
        async with model(bundle) as (made, session):
            assert await made.ready()
            assert len(session.shapes) == 2  # the two samples of the reference

    run(work())


def test_an_engine_that_hangs_is_not_ready_and_its_requests_are_answered(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle, hang_ms=50) as (made, session):
            session.gate.clear()
            asked = asyncio.create_task(made.infer(feeds(1)))
            await _busy(session, 1)
            await asyncio.sleep(0.1)
            assert not await made.ready()
            made.watch()
            with pytest.raises(ServeError, match="hangs") as caught:
                await asked
            assert caught.value.status == 503
            assert caught.value.retry_after
            session.gate.set()  # it comes back after all
            assert (await made.infer(feeds(4))).outputs["y"][0, 0] == 8
            assert await made.ready()

    run(work())


def test_readiness_does_not_wait_for_a_canary_that_hangs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 0.0)
    monkeypatch.setattr(module, "_CANARY_LIMIT", 0.1)

    async def work() -> None:
        async with model(bundle) as (made, session):
            session.gate.clear()
            start = time.monotonic()
            assert not await made.ready()
            assert time.monotonic() - start < 5

    run(work())


def test_a_closing_model_answers_what_it_has(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle) as (made, session):
            session.gate.clear()
            asked = asyncio.create_task(made.infer(feeds(1)))
            await _busy(session, 1)
            closing = asyncio.create_task(made.close())
            await asyncio.sleep(0.05)
            assert not closing.done()
            session.gate.set()
            assert (await asked).outputs["y"][0, 0] == 2
            await closing

    run(work())


def test_a_latency_target_shrinks_the_batches_until_it_is_held(bundle: Bundle) -> None:
    async def work() -> None:
        async with model(bundle, target_p99_ms=0.000001, max_batch=16) as (made, _):
            for _ in range(3 * 128):
                await made.infer(feeds(1))
            assert made._batcher.policy.largest < 16

    run(work())
