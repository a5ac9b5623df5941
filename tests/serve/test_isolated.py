from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from edgekit.runtimes import SessionOptions

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, SpecError
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.isolated import IsolatedSession
from edgekit.serve.repository import Repository
from edgekit.spec import Feeds
from edgekit.verify import Reference

OPTIONS = SessionOptions(threads=1)


@pytest.fixture(scope="module")
def isolated(built: Path) -> Iterator[IsolatedSession]:
    bundle = Bundle.open(built)
    artifact = bundle.selected("onnxruntime")
    with IsolatedSession("onnxruntime", bundle.file(artifact), OPTIONS) as session:
        yield session


@pytest.fixture(scope="module")
def sample(built: Path) -> Feeds:
    return Reference.load(built / "reference.npz").feeds[0]


def _pid(session: IsolatedSession) -> int:
    assert session.pid is not None
    return session.pid


def test_it_computes_what_a_session_of_this_process_does(
    isolated: IsolatedSession, bundle: Bundle, sample: Feeds
) -> None:
    path = bundle.file(bundle.selected("onnxruntime"))
    with runtimes.get("onnxruntime").load(path, OPTIONS) as own:
        assert isolated.inputs == own.inputs
        np.testing.assert_array_equal(isolated.run(sample)["logits"], own.run(sample)["logits"])
    assert _pid(isolated) != os.getpid()


def test_feeds_that_do_not_fit_are_refused_here(isolated: IsolatedSession) -> None:
    with pytest.raises(SpecError, match="missing"):
        isolated.run({})


def test_a_killed_engine_is_told_and_started_again(
    isolated: IsolatedSession, sample: Feeds
) -> None:
    right = isolated.run(sample)["logits"]
    restarts = isolated.restarts
    os.kill(_pid(isolated), signal.SIGKILL)
    with pytest.raises(ServeError, match=r"SIGKILL and is started again") as caught:
        isolated.run(sample)
    assert caught.value.status == 503
    assert caught.value.retry_after
    np.testing.assert_array_equal(isolated.run(sample)["logits"], right)
    assert isolated.restarts == restarts + 1


def test_an_artifact_that_the_engine_refuses_is_one_error_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    before = set(multiprocessing.active_children())
    with pytest.raises(EdgekitError, match=r"model\.onnx"):
        IsolatedSession("onnxruntime", tmp_path / "model.onnx", OPTIONS)
    assert set(multiprocessing.active_children()) == before


def test_closing_ends_the_process(bundle: Bundle) -> None:
    session = IsolatedSession("onnxruntime", bundle.file(bundle.selected("onnxruntime")), OPTIONS)
    pid = _pid(session)
    session.close()
    assert not psutil.pid_exists(pid)


def test_a_hanging_engine_is_killed_and_works_again(built: Path, sample: Feeds) -> None:
    """The engine's process is stopped: it lives, and answers nothing, as one that hangs."""
    model = ModelConfig(runtime="onnxruntime", threads=1, hang_ms=300)

    async def work() -> None:
        repository = Repository(built, ServerConfig(defaults=model, isolate=True), "residual")
        await repository.start()
        session = repository.find("residual")._workers[0].session  # type: ignore[attr-defined]
        right = (await repository.infer("residual", None, sample)).outputs["logits"]
        os.kill(_pid(session), signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(ServeError) as caught:
            await repository.infer("residual", None, sample)
        assert caught.value.status == 503
        assert time.monotonic() - start < 10
        again = (await repository.infer("residual", None, sample)).outputs["logits"]
        np.testing.assert_array_equal(again, right)
        assert await repository.ready()
        await repository.close()

    asyncio.run(asyncio.wait_for(work(), 60))
