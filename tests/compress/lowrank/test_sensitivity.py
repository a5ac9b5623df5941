"""How far one factorized site moves the outputs of the whole model."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from edgekit import zoo
from edgekit.compress.base import ModuleContext
from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.lowrank.recipe_pass import LowRank
from edgekit.compress.lowrank.sensitivity import OutputError
from edgekit.compress.modules import count_macs, example_tensors
from edgekit.errors import CalibrationError
from edgekit.workload import Workload


class _Scaled(Site):
    """What a candidate of rank r does to the first layer: all its weights times 1 + r / 100."""

    name, kind, before, macs, parameters = "0", "known", "known", 1, 1

    def candidates(self, multiple: int) -> list[Candidate]:
        return [Candidate((multiple,), 0.0, 0, 0)]

    def replace(self, model: nn.Module, candidate: Candidate) -> None:
        with torch.no_grad():
            model.get_parameter("0.weight").mul_(1 + candidate.ranks[0] / 100)


def _line(outputs: int = 3) -> Workload:
    torch.manual_seed(0)
    x = torch.randn(4, 5)
    return Workload(
        "line",
        nn.Sequential(nn.Linear(5, outputs, bias=False)).eval(),
        {"x": x},
        calibration=lambda: [{"x": x.numpy()}],
    )


def test_it_is_the_squared_error_in_units_of_the_outputs() -> None:
    workload = _line()
    assert isinstance(workload.model, nn.Module)
    before = copy.deepcopy(workload.model.state_dict())
    judge = OutputError(workload, workload.model)
    assert judge(_Scaled(), Candidate((10,), 0.0, 0, 0)) == pytest.approx(0.01, rel=1e-4)
    assert judge(_Scaled(), Candidate((0,), 0.0, 0, 0)) == 0.0
    assert all(map(torch.equal, before.values(), workload.model.state_dict().values()))


def test_without_data_or_floats_it_says_so() -> None:
    workload = _line()
    assert isinstance(workload.model, nn.Module)
    with pytest.raises(CalibrationError, match="no floating-point output"):
        OutputError(replace(workload, calibration=list), workload.model)


def test_for_the_same_macs_the_outputs_are_nearer_than_with_one_share_for_all() -> None:
    loaded = zoo.load("mlp-digits")
    workload = replace(loaded, calibration=lambda: islice(loaded.feeds(), 8))
    inputs = example_tensors(workload)

    def error(rank: dict[str, float]) -> tuple[float, int]:
        settings = LowRank.model_validate({"type": "lowrank", "rank": rank, "multiple": 4})
        made = settings.apply(workload, ModuleContext()).model
        assert isinstance(workload.model, nn.Module)
        batches = [torch.from_numpy(np.array(feeds["pixels"])) for feeds in workload.feeds()]
        with torch.no_grad():
            wanted = torch.cat([workload.model(batch) for batch in batches])
            got = torch.cat([made(batch) for batch in batches])
        moved = float((got - wanted).square().sum() / wanted.square().sum())
        return moved, count_macs(made, inputs)

    plain, macs = error({"ratio": 0.5})
    budgets = np.geomspace(0.001, 0.5, 25)
    allotted = [found for found in (error({"output_loss": b}) for b in budgets) if found[1] <= macs]
    assert min(moved for moved, _ in allotted) < plain
