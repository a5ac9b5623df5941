"""The pass as a recipe has it, on real models with real data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit import zoo
from edgekit.compress.base import Measured, ModuleContext, Trained, pass_types
from edgekit.compress.lowrank.layers import find
from edgekit.compress.lowrank.recipe_pass import LowRank
from edgekit.compress.lowrank.statistics import input_moments
from edgekit.compress.lowrank.svd import decompose, factors
from edgekit.compress.lowrank.weighting import Weighting, input_root
from edgekit.compress.modules import check_module, count_macs, example_tensors
from edgekit.compress.recipe import Recipe
from edgekit.errors import CalibrationError, CompressError, RecipeError, WorkloadError
from edgekit.workload import Workload


@pytest.fixture(scope="module")
def minilm() -> Workload:
    return zoo.load("minilm")


@pytest.fixture(scope="module")
def digits() -> Workload:
    return zoo.load("mlp-digits")


@pytest.fixture(scope="module")
def resnet() -> Workload:
    loaded = zoo.load("resnet8-mnist")
    return replace(loaded, calibration=lambda: islice(loaded.calibration(), 4))


def _lowrank(**keys: object) -> LowRank:
    return LowRank.model_validate({"type": "lowrank", **keys})


def _apply(workload: Workload, **keys: object) -> Trained:
    done = _lowrank(**keys).apply(workload, ModuleContext())
    check_module(workload, done.model, "lowrank")
    return done


def test_recipe_has_the_pass(digits: Workload) -> None:
    assert pass_types()["lowrank"] is LowRank
    step = {"type": "lowrank", "rank": {"ratio": 0.6}, "multiple": 8}
    (made,) = Recipe.model_validate({"name": "small", "passes": [step]}).module_passes
    done = made.apply(digits, ModuleContext())
    assert done.report.changed > 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"methd": "svd"}, "unknown key 'methd', did you mean 'method'"),
        ({"rank": {"energy": 0.9, "ratio": 0.5}}, "exactly one of energy, ratio"),
        ({"multiple": 0}, "multiple"),
        ({"conv": "svd"}, "conv"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(keys: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.model_validate({"name": "x", "passes": [{"type": "lowrank", **keys}]})


@pytest.mark.slow
def test_activation_aware_svd_beats_plain_svd_at_every_rank_on_every_layer(
    minilm: Workload,
) -> None:
    assert isinstance(minilm.model, nn.Module)
    names = list(minilm.example_inputs)
    layers, _ = find(minilm.model, list(example_tensors(minilm).values()))
    modules = {name: layer.module for name, layer in layers.items() if "layer." in name}
    moments = input_moments(minilm.model, modules, minilm.feeds(), names)
    assert len(modules) == 36
    for name, module in modules.items():
        weight = module.weight.detach().double()
        exact = torch.linalg.cholesky(
            moments[name].moment + 1e-12 * moments[name].moment.trace() * torch.eye(len(weight.T))
        )
        wanted = weight @ exact
        found = []
        for weighting in (Weighting(root=input_root(moments[name].moment)), Weighting()):
            left, values = decompose(weight, weighting)
            second, first = factors(weight, left[:, :320], values[:320], weighting)
            found.append((second, first @ exact))
        for rank in range(16, 321, 16):
            aware, plain = (
                float((wanted - second[:, :rank] @ first[:rank]).norm()) for second, first in found
            )
            assert aware < plain, (name, rank)


@pytest.mark.slow
def test_activation_aware_svd_keeps_more_of_held_out_embeddings(minilm: Workload) -> None:
    cosines = {
        method: _cosine(minilm, _apply(minilm, method=method, rank={"ratio": 0.8}).model)
        for method in ("svd", "activation-svd")
    }
    assert cosines["activation-svd"] > cosines["svd"] + 0.05


def _cosine(workload: Workload, model: nn.Module) -> float:
    def predict(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {"embedding": model(*map(torch.from_numpy, feeds.values())).numpy()}

    return workload.score(predict)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("mlp-digits", {"method": "svd", "multiple": 8}),
        ("mlp-digits", {"method": "fisher-svd", "multiple": 8}),
        ("resnet8-mnist", {"conv": "tucker", "multiple": 8}),
        ("resnet8-mnist", {"conv": "cp", "multiple": 32}),
        ("resnet8-mnist", {"conv": "spatial", "multiple": 8}),
        pytest.param("minilm", {"attention": True}, marks=pytest.mark.slow),
    ],
)
def test_factorized_models_export_and_agree(
    name: str, keys: dict[str, object], tmp_path: Path
) -> None:
    workload = zoo.load(name)
    calibration = workload.calibration
    workload.calibration = lambda: islice(calibration(), 4)
    done = _apply(workload, rank={"ratio": 0.7}, **keys)
    assert done.report.changed > 0
    inputs = example_tensors(workload)
    assert count_macs(done.model, inputs) < count_macs(workload.model, inputs)
    path = export_onnx(
        done.model,
        inputs,
        tmp_path / "model.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=20,
    )
    feeds = next(workload.feeds())
    (got,) = onnxruntime.InferenceSession(path).run(None, feeds)
    with torch.no_grad():
        wanted = done.model(*(torch.from_numpy(feeds[name]) for name in inputs)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-4 * np.abs(wanted).max())


def test_result_is_plain_layers_under_the_old_name(resnet: Workload) -> None:
    done = _apply(resnet, conv="tucker", multiple=8, rank={"ratio": 0.5})
    for change in done.report.changes:
        if change.kept:
            made = done.model.get_submodule(change.where)
            assert type(made) is nn.Sequential
            assert {type(part) for part in made} <= {nn.Linear, nn.Conv2d}


def test_changes_tell_shape_and_rank_and_why_not(digits: Workload) -> None:
    done = _apply(digits, method="svd", multiple=8, rank={"ratio": 0.6})
    changes = {change.where: change for change in done.report.changes}
    assert done.report.total == len(changes)
    assert done.report.changed == sum(change.kept for change in changes.values())
    kept = next(change for change in changes.values() if change.kept)
    module = digits.model.get_submodule(kept.where)
    assert kept.before == "x".join(map(str, module.weight.shape))
    assert kept.after.startswith("rank ")
    assert "relative error" in kept.why
    assert "MACs instead of" in done.report.details[0]


def test_it_gives_the_same_bits_again(resnet: Workload) -> None:
    states = [_apply(resnet, multiple=8, rank={"ratio": 0.6}).model.state_dict() for _ in range(2)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_the_workload_stays_as_it_was(digits: Workload) -> None:
    before = {name: tensor.clone() for name, tensor in digits.model.state_dict().items()}
    random = torch.get_rng_state()
    _apply(digits, multiple=8)
    assert torch.equal(torch.get_rng_state(), random)
    after = digits.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_layer_that_would_not_get_cheaper_is_left_alone(digits: Workload) -> None:
    done = _apply(digits, multiple=64, rank={"energy": 0.5})
    assert done.report.changed == 0
    assert {change.why for change in done.report.changes} == {
        "no rank that is a multiple of 64 has fewer MACs"
    }


def test_excluded_modules_stay(resnet: Workload) -> None:
    everything = _apply(resnet, multiple=8, rank={"ratio": 0.5})
    first = next(change.where for change in everything.report.changes if change.kept)
    done = _apply(resnet, multiple=8, rank={"ratio": 0.5}, exclude=[first])
    assert first not in {change.where for change in done.report.changes}
    assert type(done.model.get_submodule(first)) is nn.Conv2d


def test_conv_none_leaves_convolutions_of_more_than_a_place(resnet: Workload) -> None:
    done = _apply(resnet, conv="none", multiple=8, rank={"ratio": 0.6})
    kept = {change.where for change in done.report.changes if change.kept}
    for name in kept:
        assert resnet.model.get_submodule(name).weight.shape[2:].numel() == 1


def test_fine_tuning_wins_back_accuracy(digits: Workload) -> None:
    keys = {"method": "svd", "multiple": 4, "rank": {"ratio": 0.2}}
    scores = []
    for more in ({}, {"finetune": {"epochs": 2}}):
        model = _apply(digits, **keys, **more).model
        scores.append(digits.score(_predict_of(model)))
    assert scores[1] > scores[0]


def _predict_of(model: nn.Module):
    def predict(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {"logits": model(*map(torch.from_numpy, feeds.values())).numpy()}

    return predict


class _MacClock:
    """A clock whose seconds are known: MACs, but pointwise layers of some shape cost dear."""

    name = "macs"

    def __init__(self, dear: tuple[int, ...] = ()) -> None:
        self._dear = dear
        self.compared: list[tuple[float, float]] = []

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        before, after = self.medians([baseline, candidate])
        self.compared.append((before, after))
        return Measured(before / after, before / after * 0.99)

    def medians(self, workloads: Sequence[Workload]) -> list[float]:
        return [self._seconds(workload) for workload in workloads]

    def _seconds(self, workload: Workload) -> float:
        assert isinstance(workload.model, nn.Module)
        dear = [p for p in workload.model.parameters() if tuple(p.shape) == self._dear]
        return count_macs(workload.model, example_tensors(workload)) * (1 + len(dear))


def test_what_is_faster_is_kept(digits: Workload) -> None:
    clock = _MacClock()
    done = _lowrank(method="svd", multiple=8, rank={"ratio": 0.6}).apply(
        digits, ModuleContext(clock=clock)
    )
    assert done.report.changed > 0
    assert "times as fast on macs" in done.report.changes[0].why
    # each kind is timed against what was kept before it
    for (_, kept), (baseline, _) in zip(clock.compared, clock.compared[1:], strict=False):
        assert kept == baseline


def test_what_is_slower_is_undone_by_kind_and_said_so(digits: Workload) -> None:
    settings = _lowrank(method="svd", multiple=8, rank={"ratio": 0.6})
    free = settings.apply(digits, ModuleContext())
    victim = next(change for change in free.report.changes if change.kept)
    dear = tuple(free.model.get_submodule(victim.where)[0].weight.shape)
    done = settings.apply(digits, ModuleContext(clock=_MacClock(dear)))
    changes = {change.where: change for change in done.report.changes}
    undone = changes[victim.where]
    assert (undone.kept, undone.after) == (False, victim.after)
    assert "times as fast on macs, at least 0." in undone.why
    assert type(done.model.get_submodule(victim.where)) is nn.Linear
    alike = [one for one in changes.values() if one.before == victim.before]
    assert not any(one.kept for one in alike)
    assert done.report.changed == sum(change.kept for change in changes.values())


def test_not_measured_keeps_everything(digits: Workload) -> None:
    settings = _lowrank(method="svd", multiple=8, rank={"ratio": 0.6}, measured=False)
    clock = _MacClock()
    done = settings.apply(digits, ModuleContext(clock=clock))
    assert done.report.changed > 0
    assert clock.compared == []


def test_calibration_that_is_not_finite_names_the_layer(resnet: Workload) -> None:
    image = np.full((1, *resnet.example_inputs["image"].shape[1:]), np.nan, np.float32)
    bad = replace(resnet, calibration=lambda: [{"image": image}])
    with pytest.raises(CalibrationError, match=r"gives layer '.+' an input with NaN"):
        _apply(bad)


@pytest.mark.parametrize(
    ("change", "keys", "error", "message"),
    [
        ({"calibration": None}, {}, CalibrationError, "no calibration data"),
        ({"training": None}, {"method": "fisher-svd"}, WorkloadError, "has no training"),
        ({"training": None}, {"finetune": {}, "multiple": 8}, WorkloadError, "neither training"),
        ({"model": Path("model.onnx")}, {}, WorkloadError, "ONNX file"),
        ({}, {"exclude": ["hed"]}, CompressError, "exclude 'hed' matches no module"),
        ({}, {"exclude": ["*"]}, CompressError, "no Linear or Conv2d left to factorize"),
    ],
)
def test_what_is_missing_is_said(
    digits: Workload,
    change: dict[str, object],
    keys: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        _apply(replace(digits, **change), **keys)
