"""A palettized model has few values, compresses well, and predicts as before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import check_module
from edgekit.compress.palettize.palettize import palettize
from edgekit.compress.palettize.recipe_pass import Palettize
from edgekit.errors import CompressError
from edgekit.reference import reference_predict
from edgekit.workload import Workload
from edgekit.zoo import lstm_digits, mlp_digits


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))


def _counts(model: nn.Module) -> dict[str, int]:
    return {n: len(p.unique()) for n, p in model.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("bits", range(1, 9))
def test_no_weight_has_more_values_than_its_bits_allow(bits: int) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Conv1d(64, 32, 3))
    palettize(model, bits)
    assert _counts(model) == {"0.weight": 2**bits, "1.weight": 2**bits}


def test_biases_and_norms_are_left_alone() -> None:
    model = _model()
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.ndim < 2}
    palettize(model, 1)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if p.ndim < 2)


def test_groups_of_channels_have_palettes_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(32, 10))
    whole = copy.deepcopy(model)
    before = model[0].weight.detach().clone()
    palettize(model, 2, channels=4)
    palettize(whole, 2)
    assert [len(rows.unique()) for rows in model[0].weight.split(4)] == [4, 4, 4]
    assert (model[0].weight - before).square().sum() < (whole[0].weight - before).square().sum()


def test_pruned_weights_stay_zero() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    with torch.no_grad():
        model[0].weight[:, ::2] = 0.0
    zeros = model[0].weight == 0
    palettize(model, 3)
    assert torch.equal(model[0].weight == 0, zeros)
    assert _counts(model) == {"0.weight": 8}


def test_what_is_excluded_stays_and_is_told() -> None:
    model = _model()
    before = model[3].weight.detach().clone()
    changes, _ = palettize(model, 2, exclude=["3"])
    assert torch.equal(model[3].weight, before)
    assert [(c.where, c.kept, c.why) for c in changes] == [
        ("0.weight", True, ""),
        ("3.weight", False, "excluded"),
    ]


def test_what_has_few_values_already_is_told() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    palettize(model, 3)
    changes, sizes = palettize(model, 3)
    assert (changes[0].kept, changes[0].why) == (False, "has no more values")
    assert sizes.before == sizes.after


def test_a_glob_that_names_nothing_suggests_the_nearest() -> None:
    with pytest.raises(
        CompressError, match="exclude 'header' matches no module, did you mean 'head'"
    ):
        palettize(nn.ModuleDict({"head": nn.Linear(2, 2)}), 2, exclude=["header"])


def test_a_model_without_weights_is_told() -> None:
    with pytest.raises(CompressError, match="no weight of two or more axes"):
        palettize(nn.Sequential(nn.ReLU()), 2)


def _score(workload: Workload, model: nn.Module) -> float:
    workload.model = model
    with reference_predict(workload) as predict:
        return workload.score(predict)


@pytest.mark.parametrize("zoo", [mlp_digits, lstm_digits])
def test_at_four_bits_a_trained_model_is_a_quarter_in_size_and_as_good(zoo: object) -> None:
    workload = zoo.workload()  # type: ignore[attr-defined]
    made = Palettize(type="palettize", bits=4).apply(workload, ModuleContext())
    check_module(workload, made.model, "palettize")
    (detail,) = made.report.details
    assert "only size on disk is won" in detail
    before = made.report.changes[0].before
    values, after = made.report.changes[0].after.split(", ")
    assert values == "16 values"
    assert float(after.split()[0]) < 0.25 * float(before.split()[0])
    assert _score(workload, made.model) >= _score(workload, zoo.workload().model) - 0.01  # type: ignore[attr-defined]


def test_the_workloads_own_model_stays() -> None:
    workload = mlp_digits.workload()
    assert isinstance(workload.model, nn.Module)
    before = [p.detach().clone() for p in workload.model.parameters()]
    Palettize(type="palettize", bits=1).apply(workload, ModuleContext())
    assert all(map(torch.equal, before, workload.model.parameters()))
    assert all(p.grad is None for p in workload.model.parameters())
