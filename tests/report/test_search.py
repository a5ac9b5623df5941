"""What the report says of a search, of the target and of where the calibration came from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import Recipe
from edgekit.compress.search.journal import Trial, pareto
from edgekit.machine import this_machine
from edgekit.manifest import Manifest
from edgekit.numerics import probe
from edgekit.pipeline import Timing, make_bundle
from edgekit.report import write_report
from edgekit.report.page import render
from edgekit.report.search import search_rows
from edgekit.report.table import print_summary
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Metric, Workload
from tests.conftest import SHAPE, batches
from tests.report.test_report import _Page

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def searched(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose recipe searched for speed and for accuracy, with a budget int8 misses."""

    def evaluate(predict: Callable[[Feeds], dict[str, np.ndarray]]) -> dict[str, float]:
        (feeds,) = batches(1, seed=1)
        with torch.no_grad():
            wanted = network(torch.from_numpy(feeds["image"])).numpy()
        error = np.abs(predict(feeds)["logits"] - wanted).mean() / np.abs(wanted).mean()
        return {"closeness": 1.0 - float(error)}

    workload = Workload(
        name="residual",
        model=network,
        example_inputs={"image": torch.zeros(1, *SHAPE)},
        output_names=["logits"],
        calibration=batches,
        evaluate=evaluate,
        metric=Metric("closeness"),
    )
    recipe = Recipe.model_validate(
        {
            "name": "searching",
            "passes": [{"type": "int8-ptq", "observer": "min-max"}],
            "budget": {"max_drop": 0.001},
            "search": {"seconds": 3},
        }
    )
    return make_bundle(
        workload,
        tmp_path_factory.mktemp("searched") / "residual.edge",
        recipe=recipe,
        targets=parse_targets(["onnxruntime"], None),
        timing=Timing(rounds=(10, 20), seconds=1),
    )


def _words(manifest: Manifest) -> str:
    return _Page(render(manifest)).words


def _with_trials(manifest: Manifest, *trials: Trial) -> Manifest:
    return manifest.model_copy(update={"search": trials})


def _trial(*floats: str, **fields: object) -> Trial:
    return Trial.model_validate(
        {"engine": "onnxruntime", "kind": "measured", "keep_float": floats, **fields}
    )


def test_every_choice_that_was_tried_has_one_row(searched: Bundle) -> None:
    trials = searched.manifest.search
    found = search_rows(searched.manifest)
    assert {t.kind for t in trials} == {"measured"}
    choices = [(row.engine, row.kind, row.keep_float) for row in found]
    assert len(choices) == len(set(choices))
    assert set(choices) == {(t.engine, t.kind, tuple(sorted(t.keep_float))) for t in trials}


def test_the_page_shows_the_search(searched: Bundle) -> None:
    words = _words(searched.manifest)
    assert "Search" in words
    assert "against all int8" in words
    for row in search_rows(searched.manifest):
        assert row.kind in words
        if row.score is not None:
            assert f"{row.score:.4f}" in words
        if row.speedup is not None:
            assert f"{row.speedup:.2f}x" in words


def test_the_page_with_a_search_is_self_contained(searched: Bundle) -> None:
    page = _Page(render(searched.manifest))
    assert page.fetched == []
    assert "script" not in page.tags


def test_a_bundle_without_a_search_has_no_such_section(bundle: Bundle) -> None:
    assert "<h2>Search</h2>" not in render(bundle.manifest)


def test_score_and_speed_of_one_choice_come_together(bundle: Bundle) -> None:
    manifest = _with_trials(
        bundle.manifest,
        _trial("conv", speedup=1.3, low=1.1, note="conv in float"),
        _trial("conv", score=0.9, note="score"),
    )
    (row,) = search_rows(manifest)
    assert (row.score, row.speedup) == (0.9, 1.3)
    assert row.note == "conv in float, score"


def test_the_pareto_choices_are_marked(bundle: Bundle) -> None:
    trials = [
        _trial(score=0.8, note="score"),  # all int8: speed 1 by definition
        _trial("a", score=0.9, speedup=0.9),
        _trial("b", score=0.85, speedup=0.7),  # beaten by a
        _trial("c", score=0.95, speedup=0.8),
        _trial("d", speedup=2.0),  # never scored
        _trial("e", score=0.99, kind="simulated"),
    ]
    manifest = _with_trials(bundle.manifest, *trials)
    marked = [row.keep_float for row in search_rows(manifest) if row.pareto]
    assert marked == [(), ("a",), ("c",)]
    whole = [trials[0].model_copy(update={"speedup": 1.0}), *trials[1:]]
    assert {t.keep_float for t in pareto(whole, higher_is_better=True)} == set(marked)
    assert render(manifest).count("&#9733;") == 3


def test_engines_are_not_compared_with_each_other(bundle: Bundle) -> None:
    manifest = _with_trials(
        bundle.manifest,
        _trial("a", score=0.9, speedup=2.0),
        _trial("a", score=0.8, speedup=1.0, engine="openvino"),
    )
    assert [row.pareto for row in search_rows(manifest)] == [True, True]


def test_many_operators_are_counted_and_the_first_named(bundle: Bundle) -> None:
    trial = _trial(*(f"op{index}" for index in range(7)), score=0.5)
    words = _words(_with_trials(bundle.manifest, trial))
    assert "7 op0, op1, op2, ..." in words
    assert "op3" not in words


def test_names_and_notes_of_trials_are_escaped(bundle: Bundle) -> None:
    trial = _trial(EVIL, engine=EVIL, kind=EVIL, note=EVIL, score=0.5)
    manifest = _with_trials(bundle.manifest, trial)
    assert "<script>" not in render(manifest.model_copy(update={"target": EVIL}))


def test_a_target_of_this_class_is_validated(bundle: Bundle) -> None:
    assert bundle.manifest.target == probe(this_machine().features).name
    assert f"{bundle.manifest.target}, validated on this class" in _words(bundle.manifest)


def test_another_target_says_where_it_was_validated(bundle: Bundle) -> None:
    manifest = bundle.manifest.model_copy(update={"target": "arm-dot"})
    here = probe(manifest.machine.features).name
    assert f"made for arm-dot, validated on {here}" in _words(manifest)
    stream = io.StringIO()
    print_summary(manifest, Console(file=stream, width=200))
    assert f"Made for arm-dot, validated on {here}." in stream.getvalue()


def test_a_bundle_that_names_no_target_says_nothing_of_it(bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest.model_copy(update={"target": ""})
    assert "validated on" not in _words(manifest)
    stream = io.StringIO()
    print_summary(manifest, Console(file=stream, width=200))
    assert "alidated on" not in stream.getvalue()


@pytest.mark.parametrize(
    ("cached", "told"), [(True, "from the cache"), (False, "made for this bundle")]
)
def test_the_page_says_where_the_calibration_came_from(
    bundle: Bundle, cached: bool, told: str
) -> None:
    table = {**(bundle.manifest.calibration or {}), "cached": cached}
    words = _words(bundle.manifest.model_copy(update={"calibration": table}))
    assert f"{table['samples']} samples" in words
    assert told in words


def test_json_says_the_same(searched: Bundle, tmp_path: Path) -> None:
    write_report(searched, tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    manifest = searched.manifest
    assert document["target"]["made_for"] == manifest.target
    assert document["target"]["validated_on"] == probe(manifest.machine.features).name
    calibration = manifest.calibration or {}
    assert document["calibration"] == {
        key: calibration[key] for key in ("observer", "samples", "cached")
    }
    rows = search_rows(manifest)
    assert [row["keep_float"] for row in document["search"]] == [list(r.keep_float) for r in rows]
    assert [row["pareto"] for row in document["search"]] == [r.pareto for r in rows]
