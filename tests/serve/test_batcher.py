from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from edgekit.serve.batch import Layout
from edgekit.serve.batcher import Batcher, EngineFailedError
from edgekit.serve.errors import ServeError
from edgekit.serve.statistics import Statistics
from edgekit.serve.waiting import BatchPolicy
from edgekit.serve.worker import Worker
from edgekit.spec import Array, check_feeds
from tests.serve.doubling import Doubling, feeds


class Queue:
    """A batcher over one doubling session."""

    def __init__(self, policy: BatchPolicy, pad: dict[str, float] | None = None) -> None:
        self.session = Doubling()
        self.worker = Worker(self.session, "test")
        self.statistics = Statistics()
        layout = Layout(Doubling.inputs, Doubling.outputs, pad or {})
        self.batcher = Batcher([self.worker], layout, policy, self.statistics)

    async def ask(
        self, given: dict[str, Array], *, timeout: float | None = None, priority: int = 2
    ) -> Array:
        deadline = None if timeout is None else time.monotonic() + timeout
        sizes = check_feeds(Doubling.inputs, given)
        outputs, _ = await self.batcher.infer(given, sizes, deadline, priority)
        return outputs["y"]

    async def blocked(self) -> asyncio.Task[Array]:
        """A request that keeps the engine busy until the gate opens."""
        self.session.gate.clear()
        task = asyncio.create_task(self.ask(feeds(0, length=1)))
        while not self.session.shapes:
            await asyncio.sleep(0.001)
        return task


@asynccontextmanager
async def queue(pad: dict[str, float] | None = None, **policy: Any) -> AsyncIterator[Queue]:
    made = Queue(BatchPolicy(**{"largest": 8, **policy}), pad)
    yield made
    made.session.gate.set()
    await asyncio.to_thread(made.worker.close)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def _settle() -> None:
    """Let everything that was started reach the queue."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_waits_together_runs_together() -> None:
    async def work() -> None:
        async with queue() as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(i, samples=1 + i % 2))) for i in range(5)]
            await _settle()
            q.session.gate.set()
            answers = await asyncio.gather(*asked)
            await busy
            assert q.session.shapes[1:] == [(7, 3)]
            for i, answer in enumerate(answers):
                np.testing.assert_array_equal(answer, feeds(2 * i, samples=1 + i % 2)["x"])
            assert q.statistics.batches[7].infer.count == 1

    run(work())


def test_a_batch_is_never_larger_than_the_limit_but_for_one_large_request() -> None:
    async def work() -> None:
        async with queue(largest=4) as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(1, samples=n))) for n in (3, 2, 6, 1)]
            await _settle()
            q.session.gate.set()
            await asyncio.gather(busy, *asked)
            assert [shape[0] for shape in q.session.shapes[1:]] == [3, 2, 6, 1]

    run(work())


def test_incompatible_shapes_never_share_a_batch() -> None:
    async def work() -> None:
        async with queue() as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(i, length=2 + i % 2))) for i in range(6)]
            await _settle()
            q.session.gate.set()
            answers = await asyncio.gather(*asked)
            await busy
            assert q.session.shapes[1:] == [(3, 2), (3, 3)]
            assert [answer[0, 0] for answer in answers] == [0, 2, 4, 6, 8, 10]

    run(work())


def test_ragged_inputs_are_padded_and_cut_back_where_the_model_allows_it() -> None:
    async def work() -> None:
        async with queue(pad={"x": 7.0}) as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(i, length=1 + i))) for i in range(4)]
            await _settle()
            q.session.gate.set()
            answers = await asyncio.gather(*asked)
            await busy
            assert q.session.shapes[1:] == [(4, 4)]
            for i, answer in enumerate(answers):
                np.testing.assert_array_equal(answer, feeds(2 * i, length=1 + i)["x"])

    run(work())


def test_the_first_priority_goes_first_and_equals_in_order() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            busy = await q.blocked()
            order: list[str] = []

            async def ask(name: str, priority: int) -> None:
                await q.ask(feeds(1), priority=priority)
                order.append(name)

            asked = [
                asyncio.create_task(ask(name, priority))
                for name, priority in (("low", 3), ("a", 2), ("high", 1), ("b", 2))
            ]
            await _settle()
            q.session.gate.set()
            await asyncio.gather(busy, *asked)
            assert order == ["high", "a", "b", "low"]

    run(work())


def test_a_batch_that_is_not_full_waits_no_longer_than_the_delay() -> None:
    async def work() -> None:
        async with queue(largest=4, delay=0.2) as q:
            start = time.monotonic()
            first = asyncio.create_task(q.ask(feeds(1)))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(q.ask(feeds(2)))
            await asyncio.gather(first, second)
            assert q.session.shapes == [(2, 3)]
            assert time.monotonic() - start >= 0.2

    run(work())


def test_a_full_batch_does_not_wait() -> None:
    async def work() -> None:
        async with queue(largest=2, delay=30.0) as q:
            await asyncio.gather(q.ask(feeds(1)), q.ask(feeds(2)))
            assert q.session.shapes == [(2, 3)]

    run(work())


def test_the_largest_preferred_size_that_can_be_reached_is_taken() -> None:
    async def work() -> None:
        async with queue(largest=8, preferred=(2, 4)) as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(i))) for i in range(7)]
            await _settle()
            q.session.gate.set()
            await asyncio.gather(busy, *asked)
            assert [shape[0] for shape in q.session.shapes[1:]] == [4, 2, 1]

    run(work())


def test_a_full_queue_turns_requests_away_and_says_when_to_come_back() -> None:
    async def work() -> None:
        async with queue(queue=2) as q:
            await q.ask(feeds(1))  # so that it knows how long a run takes
            q.session.shapes.clear()
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(1))) for _ in range(2)]
            await _settle()
            with pytest.raises(ServeError, match="2 requests are waiting") as caught:
                await q.ask(feeds(1))
            assert caught.value.status == 429
            assert caught.value.retry_after
            q.session.gate.set()
            await asyncio.gather(busy, *asked)

    run(work())


def test_a_deadline_fires_while_the_engine_computes_and_while_a_request_waits() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            start = time.monotonic()
            q.session.gate.clear()
            asked = [asyncio.create_task(q.ask(feeds(1), timeout=0.1)) for _ in range(2)]
            failed = await asyncio.gather(*asked, return_exceptions=True)
            assert time.monotonic() - start < 5  # the engine still stands at the gate
            assert [getattr(error, "status", None) for error in failed] == [504, 504]
            assert "while the engine computed" in str(failed[0])
            assert "before the engine was free" in str(failed[1])
            q.session.gate.set()
            assert (await q.ask(feeds(3)))[0, 0] == 6
            assert len(q.session.shapes) == 2  # the one that waited was never run

    run(work())


def test_a_cancelled_request_leaves_the_queue_and_is_never_run() -> None:
    async def work() -> None:
        async with queue(largest=1, queue=1) as q:
            busy = await q.blocked()
            gone = asyncio.create_task(q.ask(feeds(1)))
            await _settle()
            gone.cancel()
            await asyncio.wait([gone])
            assert q.batcher.waiting == 0
            last = asyncio.create_task(q.ask(feeds(5)))
            await _settle()
            q.session.gate.set()
            await asyncio.gather(busy, last)
            assert len(q.session.shapes) == 2

    run(work())


def test_one_bad_request_fails_alone() -> None:
    async def work() -> None:
        async with queue() as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(value))) for value in (1, -1, 3)]
            await _settle()
            q.session.gate.set()
            good, bad, other = await asyncio.gather(*asked, return_exceptions=True)
            await busy
            assert isinstance(good, np.ndarray)
            assert isinstance(other, np.ndarray)
            assert (good[0, 0], other[0, 0]) == (2, 6)
            assert isinstance(bad, EngineFailedError)
            assert "negative" in str(bad.__cause__)

    run(work())


def test_a_worker_goes_on_with_what_waits_while_the_event_loop_is_busy() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            busy = await q.blocked()
            asked = [asyncio.create_task(q.ask(feeds(value))) for value in (1, 2)]
            await _settle()
            q.session.gate.set()
            end = time.monotonic() + 30
            while len(q.session.shapes) < 3 and time.monotonic() < end:
                time.sleep(0.001)  # the loop stands still
            assert len(q.session.shapes) == 3
            assert [answer[0, 0] for answer in await asyncio.gather(busy, *asked)] == [0, 2, 4]

    run(work())


def test_who_borrows_a_worker_goes_before_what_is_queued() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            busy = await q.blocked()
            asked = asyncio.create_task(q.ask(feeds(1)))
            await _settle()
            borrowing = asyncio.create_task(q.batcher.borrow())
            await _settle()
            q.session.gate.set()
            worker = await borrowing
            await busy
            assert len(q.session.shapes) == 1
            q.batcher.give_back(worker)
            assert (await asked)[0, 0] == 2

    run(work())


def test_what_waits_goes_on_when_a_borrower_gives_up() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            worker = await q.batcher.borrow()
            asked = asyncio.create_task(q.ask(feeds(1)))
            borrowing = asyncio.create_task(q.batcher.borrow())
            await _settle()
            q.batcher.give_back(worker)
            borrowing.cancel()
            assert (await asked)[0, 0] == 2

    run(work())


def test_a_worker_that_was_given_up_takes_nothing_before_it_is_back() -> None:
    async def work() -> None:
        async with queue(largest=1) as q:
            busy = await q.blocked()
            asked = asyncio.create_task(q.ask(feeds(1)))
            await _settle()
            q.batcher.give_up(q.worker, ServeError("the engine hangs", status=503))
            q.session.gate.set()
            time.sleep(0.1)  # the loop stands still
            assert len(q.session.shapes) == 1
            with pytest.raises(ServeError, match="hangs"):
                await busy
            assert (await asked)[0, 0] == 2

    run(work())
