"""The GPT writes the same text on every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgekit.exporters import ExportOptions

from edgekit import exporters, runtimes, zoo
from edgekit.reference import reference_predict
from edgekit.spec import Feeds, Outputs
from edgekit.workload import Workload
from edgekit.zoo.gpt import CONTEXT, written
from tests.conftest import READ_ONNX
from tests.zoo.on_engines import prepared

PROMPT = "The Prime Minister "


@pytest.fixture(scope="module")
def workload() -> Workload:
    return zoo.load("gpt-news")


@pytest.fixture(scope="module")
def graph(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(workload, tmp_path_factory.mktemp("gpt"))


def _remembering(workload: Workload) -> Callable[[Feeds], Outputs]:
    """PyTorch, with its state kept from call to call."""
    state = {
        name: np.zeros((1, *np.shape(array)[1:2], 0, np.shape(array)[3]), np.float32)
        for name, array in workload.example_inputs.items()
        if name in workload.state
    }

    def run(feeds: Feeds) -> Outputs:
        with reference_predict(workload) as predict:
            made = predict({**feeds, **state})
        state.update({name: made[new] for name, new in workload.state.items()})
        return made

    return run


@pytest.mark.parametrize("engine", READ_ONNX)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_the_same_text_as_pytorch(
    workload: Workload, graph: Path, tmp_path: Path, engine: str, seed: int | None
) -> None:
    count = CONTEXT - len(PROMPT)
    wanted = written(_remembering(workload), PROMPT, count, seed=seed)
    file = exporters.get(engine).export(graph, tmp_path / engine, ExportOptions(None, {}))[0]
    with runtimes.get(engine).load(file).stateful() as session:
        assert written(session.run, PROMPT, count, seed=seed) == wanted
    assert len(wanted) == count


def test_another_seed_another_text(workload: Workload) -> None:
    one, same, other, likeliest = (
        written(_remembering(workload), PROMPT, 40, seed=seed) for seed in (0, 0, 1, None)
    )
    assert one == same
    assert len({one, other, likeliest}) == 3


def test_one_character_at_a_time_is_the_whole_at_once(workload: Workload) -> None:
    text = np.arange(1, 33, dtype=np.int64)[None]
    whole = _remembering(workload)({"tokens": text})["logits"]
    run = _remembering(workload)
    single = [run({"tokens": text[:, [place]]})["logits"] for place in range(32)]
    np.testing.assert_allclose(np.concatenate(single, axis=1), whole, atol=1e-4)
