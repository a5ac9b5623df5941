from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import (
    CalibrationTable,
    Calibrator,
    Estimator,
    Range,
    TableCache,
    default_cache,
)

from edgekit.spec import Feeds
from tests.conftest import batches

TABLE = CalibrationTable(
    observer="min-max", samples=1, ranges={"x": Range(low=0, high=1)}, data="d"
)
TENSORS = ["image", "logits"]


class Run:
    """A calibration run, as one process makes it, and how many samples the model saw in it."""

    def __init__(
        self,
        folder: Path,
        graph: ir.Model,
        *,
        seed: int = 0,
        samples: int = 512,
        estimator: str = "min-max",
    ) -> None:
        self.seen = 0
        calibrator = Calibrator(
            lambda: batches(seed=seed),
            samples=samples,
            cache=TableCache(folder),
            progress=self._saw,
        )
        self.table = calibrator.table(graph, TENSORS, Estimator(name=estimator))

    def _saw(self, count: int) -> None:
        self.seen = count


@pytest.mark.parametrize("samples", [512, 32, 16, 10])
def test_a_second_run_hits_and_does_not_run_the_model(
    graph: ir.Model, tmp_path: Path, samples: int
) -> None:
    first, second = (Run(tmp_path, graph, samples=samples) for _ in range(2))
    assert first.seen
    assert not first.table.cached
    assert not second.seen
    assert second.table == first.table.model_copy(update={"cached": True})


def test_no_more_batches_are_asked_for_than_needed(graph: ir.Model) -> None:
    asked = []

    def feeds() -> Iterator[Feeds]:
        for batch in batches():
            asked.append(len(batch["image"]))
            yield batch

    Calibrator(feeds, samples=16).table(graph, TENSORS, Estimator(name="min-max"))
    assert sum(asked) == 16


def test_the_same_question_in_one_process_is_answered_once(graph: ir.Model) -> None:
    calls = []
    calibrator = Calibrator(batches, progress=calls.append)
    first = calibrator.table(graph, TENSORS, Estimator(name="min-max"))
    count = len(calls)
    assert calibrator.table(graph, [*TENSORS, *TENSORS], Estimator(name="min-max")) is first
    assert len(calls) == count


def test_changed_data_misses(graph: ir.Model, tmp_path: Path) -> None:
    Run(tmp_path, graph)
    other = Run(tmp_path, graph, seed=1)
    assert other.seen
    assert not other.table.cached
    assert Run(tmp_path, graph).table.cached  # both are kept


def test_a_changed_weight_misses(graph: ir.Model, tmp_path: Path) -> None:
    Run(tmp_path, graph)
    value = next(v for v in graph.graph.initializers.values() if v.const_value.size > 10)
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.001), name=value.name)
    assert not Run(tmp_path, graph).table.cached


def test_another_estimator_or_number_of_samples_misses(graph: ir.Model, tmp_path: Path) -> None:
    Run(tmp_path, graph)
    assert not Run(tmp_path, graph, estimator="mse").table.cached
    assert not Run(tmp_path, graph, samples=8).table.cached


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00", b'{"observer": 3}', None])
def test_a_damaged_file_is_passed_over_with_a_warning(
    graph: ir.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    first = Run(tmp_path, graph)
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        again = Run(tmp_path, graph)
    assert again.seen
    assert again.table == first.table
    assert f"{file.name} is unreadable" in caplog.text
    assert Run(tmp_path, graph).table.cached  # it was replaced by a good one


def test_a_folder_that_cannot_be_made_costs_a_warning_only(
    graph: ir.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path / "file" / "cache", graph)
    assert run.table.ranges
    assert "was not cached" in caplog.text


def test_tables_of_other_keys_are_not_returned(tmp_path: Path) -> None:
    cache = TableCache(tmp_path)
    cache.put("a", TABLE)
    assert cache.get("a") == [TABLE.model_copy(update={"cached": True})]
    assert cache.get("b") == []


def test_the_folder_is_the_one_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "own"))
    default_cache().put("a", TABLE)
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    default_cache().put("a", TABLE)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    assert found == ["own/calibration/a-d.json", "xdg/edgekit/calibration/a-d.json"]
