"""What leaves a repository that batches is what its engine computes alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.modelref import resolve
from edgekit.pipeline import Timing, make_bundle
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository
from edgekit.spec import Array
from edgekit.targets import parse_targets
from tests.conftest import SHAPE


@pytest.fixture(scope="module")
def in_float(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the bundle the float artifacts only, whichever were faster.

    In int8 OpenVINO rounds some sums otherwise for one sample than for several: by 1e-3 here.
    """
    path = tmp_path_factory.mktemp("float") / "residual.edge"
    original = built / "model.onnx"
    make_bundle(
        resolve(str(original), None),
        path,
        recipe=load_recipe("fp32"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(3, 5), seconds=1),
    )
    return path


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def served(
    request: pytest.FixtureRequest, in_float: Path
) -> Iterator[tuple[asyncio.AbstractEventLoop, Repository]]:
    """A repository in a loop that runs in a thread, and batches whatever it can."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    model = ModelConfig(
        runtime=request.param, threads=1, instances=2, max_batch=8, max_queue_delay_ms=2
    )
    repository = Repository(in_float, ServerConfig(defaults=model), "residual")
    asyncio.run_coroutine_threadsafe(repository.start(), loop).result(60)
    yield loop, repository
    asyncio.run_coroutine_threadsafe(repository.close(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    priorities=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_every_batched_result_equals_the_unbatched_one(
    served: tuple[asyncio.AbstractEventLoop, Repository],
    unbatched: dict[str, runtimes.Session],
    sizes: list[int],
    priorities: list[int],
    seed: int,
) -> None:
    loop, repository = served
    make = np.random.default_rng(seed)
    images = [make.standard_normal((n, *SHAPE), np.float32) for n in sizes]

    async def all_at_once() -> list[Array]:
        answers = await asyncio.gather(
            *(
                repository.infer("residual", None, {"image": image}, priority=priority)
                for image, priority in zip(images, priorities, strict=False)
            )
        )
        return [answer.outputs["logits"] for answer in answers]

    got = asyncio.run_coroutine_threadsafe(all_at_once(), loop).result(60)
    session = unbatched[repository.find("residual").platform.split("_")[0]]
    for image, logits in zip(images, got, strict=True):
        alone = session.run({"image": image})["logits"]
        np.testing.assert_allclose(logits, alone, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def unbatched(in_float: Path) -> Iterator[dict[str, runtimes.Session]]:
    bundle = Bundle.open(in_float)
    sessions = {
        name: runtimes.get(name).load(bundle.file(bundle.selected(name)))
        for name in ("onnxruntime", "openvino")
    }
    yield sessions
    for session in sessions.values():
        session.close()
