from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import Recipe
from edgekit.compress.search.journal import Journal, Trial
from edgekit.mixed_precision import MixedPrecision, fingerprint
from edgekit.pipeline import Timing, make_bundle
from edgekit.report.search import search_rows
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Metric, Workload
from tests.conftest import batches

OPERATORS = 4


class Closeness:
    """A metric that every operator moves: the share of the output that is not error."""

    def __init__(self, network: nn.Module, *, die_after: int | None = None) -> None:
        self.calls = 0
        self._die_after = die_after
        self._data = list(batches(2, seed=1))
        with torch.no_grad():
            self._wanted = [network(torch.from_numpy(f["image"])).numpy() for f in self._data]

    def __call__(self, predict: Callable[[Feeds], dict[str, np.ndarray]]) -> dict[str, float]:
        if self.calls == self._die_after:
            raise KeyboardInterrupt
        self.calls += 1
        got = [predict(feeds)["logits"] for feeds in self._data]
        error = sum(float(np.square(a - b).sum()) for a, b in zip(self._wanted, got, strict=True))
        power = sum(float(np.square(a).sum()) for a in self._wanted)
        return {"closeness": 1.0 - float(np.sqrt(error / power))}


def _recipe(drop: float, **search: object) -> Recipe:
    settings = {"latency": False, "accuracy": True, "seconds": 100, **search}
    passes = [{"type": "int8-ptq", "observer": "min-max"}]
    return Recipe.model_validate(
        {"name": "r", "passes": passes, "budget": {"max_drop": drop}, "search": settings}
    )


def _make(
    workload: Workload, out: Path, evaluate: Closeness, recipe: Recipe, timing: Timing | None = None
) -> Bundle:
    judged = replace(workload, evaluate=evaluate, metric=Metric("closeness"))
    targets = parse_targets(["onnxruntime"], None)
    return make_bundle(judged, out, recipe=recipe, targets=targets, timing=timing)


def _scores(bundle: Bundle) -> dict[str, float]:
    assert bundle.manifest.accuracy is not None
    return dict(bundle.manifest.accuracy.artifacts)


@pytest.fixture(scope="module")
def drop(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> float:
    """What quantizing every operator costs."""
    workload = Workload(
        name="residual",
        model=network,
        example_inputs={"image": torch.zeros(1, 3, 16, 16)},
        output_names=["logits"],
        calibration=batches,
    )
    recipe = _recipe(1.0).model_copy(update={"search": None})
    out = tmp_path_factory.mktemp("drop") / "m.edge"
    scores = _scores(_make(workload, out, Closeness(network), recipe))
    assert scores["onnxruntime-fp32"] > 0.999
    return scores["onnxruntime-fp32"] - scores["onnxruntime-int8"]


def test_a_budget_that_int8_misses_leaves_operators_float(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), _recipe(drop * 0.7))
    scores = _scores(bundle)
    assert scores["onnxruntime-fp32"] - scores["onnxruntime-int8"] > drop * 0.7
    assert scores["onnxruntime-fp32"] - scores["onnxruntime-int8-mixed"] <= drop * 0.7
    floats = {trial.keep_float for trial in bundle.manifest.search}
    assert any(0 < len(names) < OPERATORS for names in floats)


def test_every_trial_is_recorded_with_its_score(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), _recipe(drop * 0.7))
    trials = bundle.manifest.search
    assert {trial.kind for trial in trials} == {"measured"}
    assert all(trial.score is not None for trial in trials)
    assert max(Counter(trial.key for trial in trials).values()) == 1


def test_the_choice_for_accuracy_is_timed_so_that_it_can_be_on_the_pareto_front(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), _recipe(drop * 0.7))
    timed = [trial for trial in bundle.manifest.search if trial.speedup is not None]
    assert len(timed) == 1
    assert timed[0].keep_float
    assert timed[0].score == pytest.approx(_scores(bundle)["onnxruntime-int8-mixed"])
    rows = search_rows(bundle.manifest)
    assert {row.keep_float for row in rows if row.pareto} >= {timed[0].keep_float}


def test_a_budget_that_int8_keeps_costs_one_trial(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), _recipe(2 * drop))
    assert [trial.keep_float for trial in bundle.manifest.search] == [()]
    assert _scores(bundle).keys() == {"onnxruntime-fp32", "onnxruntime-int8"}


@pytest.mark.parametrize("budget", [0.0, 1e-5])
def test_a_budget_that_only_the_float_model_keeps_makes_no_mixed_artifact(
    workload: Workload, network: nn.Module, tmp_path: Path, budget: float
) -> None:
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), _recipe(budget))
    assert _scores(bundle).keys() == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert bundle.manifest.decisions[0].selected == "onnxruntime-fp32"


def test_a_model_without_any_quantizable_operator_has_nothing_to_search(tmp_path: Path) -> None:
    workload = Workload(
        name="softmax",
        model=nn.Softmax(dim=-1),
        example_inputs={"x": torch.zeros(1, 4)},
        output_names=["y"],
        calibration=lambda: [{"x": np.ones((2, 4), np.float32)}],
        evaluate=lambda predict: {"sum": float(predict({"x": np.ones((1, 4), "f4")})["y"].sum())},
        metric=Metric("sum"),
    )
    targets = parse_targets(["onnxruntime"], None)
    bundle = make_bundle(
        workload, tmp_path / "m.edge", recipe=_recipe(0.1), targets=targets, timing=None
    )
    assert [artifact.precision for artifact in bundle.manifest.artifacts] == ["fp32"]


def test_a_killed_search_resumes_without_repeating_a_trial(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    recipe = _recipe(drop * 0.3)
    whole = Closeness(network)
    expected = _make(workload, tmp_path / "whole.edge", whole, recipe).manifest.search
    out = tmp_path / "m.edge"
    dying = Closeness(network, die_after=2)  # the reference and a trial; some CPUs need two only
    with pytest.raises(KeyboardInterrupt):
        _make(workload, out, dying, recipe)
    journal = tmp_path / "m.edge.search.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 1
    assert not out.exists()
    resumed = Closeness(network)
    found = _make(workload, out, resumed, recipe).manifest.search
    assert [trial.key for trial in found] == [trial.key for trial in expected]
    assert resumed.calls == whole.calls - 1
    assert not journal.exists()


def test_a_search_with_another_budget_does_not_resume(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    out = tmp_path / "m.edge"
    with pytest.raises(KeyboardInterrupt):
        _make(workload, out, Closeness(network, die_after=3), _recipe(drop * 0.7))
    found = _make(workload, out, Closeness(network), _recipe(2 * drop)).manifest.search
    assert [trial.keep_float for trial in found] == [()]


def test_a_search_without_time_still_gives_a_bundle(
    workload: Workload, network: nn.Module, tmp_path: Path, drop: float
) -> None:
    recipe = _recipe(drop * 0.7, seconds=1e-9)
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), recipe)
    assert {"onnxruntime-fp32", "onnxruntime-int8"} <= _scores(bundle).keys()
    assert len(bundle.manifest.search) <= 3


@pytest.mark.slow
def test_a_search_for_speed_times_each_kind_of_operator(
    workload: Workload, network: nn.Module, tmp_path: Path
) -> None:
    recipe = _recipe(1.0, latency=True, accuracy=False)
    timing = Timing(threads=1, rounds=(10, 20), seconds=1.0)
    bundle = _make(workload, tmp_path / "m.edge", Closeness(network), recipe, timing)
    trials = bundle.manifest.search
    assert len(trials) == OPERATORS  # each is of another kind
    for trial in trials:
        assert trial.kind == "measured"
        assert "in float" in trial.note
    assert len({trial.key for trial in trials}) == len(trials)
    built = [trial for trial in trials if trial.speedup is not None]
    assert built
    assert all(trial.low is not None and trial.low <= trial.speedup for trial in built)


def test_the_fingerprint_is_that_of_graph_recipe_and_metric(
    workload: Workload, onnx_file: Path, built: Path
) -> None:
    own = fingerprint(onnx_file, _recipe(0.1), workload)
    assert fingerprint(onnx_file, _recipe(0.1), workload) == own
    assert fingerprint(onnx_file, _recipe(0.2), workload) != own
    assert fingerprint(built / "bundle.json", _recipe(0.1), workload) != own
    assert fingerprint(onnx_file, _recipe(0.1), replace(workload, name="other")) != own


@pytest.mark.parametrize(("higher_is_better", "kept"), [(True, ("a", "b")), (False, ("b",))])
def test_out_of_time_the_trial_with_the_best_score_wins_also_when_it_is_zero(
    workload: Workload, *, higher_is_better: bool, kept: tuple[str, ...]
) -> None:
    journal = Journal(None, "")
    for names, score in (
        ((), 0.2),
        (("a",), 0.1),
        (("b",), 0.0),
        (("a", "b"), 0.3),
        (("c",), None),
    ):
        trial = Trial(engine="onnxruntime", kind="simulated", keep_float=names, score=score)
        journal.add(trial)
    search = MixedPrecision.__new__(MixedPrecision)
    search._workload = replace(
        workload, evaluate=lambda _: {}, metric=Metric("m", higher_is_better=higher_is_better)
    )
    search._journal = journal
    (target,) = parse_targets(["onnxruntime"], None)
    assert search._best_scoring(target, frozenset()) == frozenset(kept)
