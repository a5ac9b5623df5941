"""BatchNorm statistics are those of the model as it is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import check_module
from edgekit.compress.train.recipe_pass import BatchNormRecalibration
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.workload import Workload


def _applied(workload: Workload, samples: int = 1024) -> tuple[nn.Module, list[bool]]:
    made = BatchNormRecalibration(type="recalibrate", samples=samples).apply(
        workload, ModuleContext()
    )
    check_module(workload, made.model, "recalibrate")
    return made.model, [change.kept for change in made.report.changes]


def test_statistics_become_the_mean_over_all_batches(workload: Workload) -> None:
    assert isinstance(workload.model, nn.Module)
    model = copy.deepcopy(workload.model)
    with torch.no_grad():
        model.get_parameter("stem.0.weight").mul_(3.0)
    workload.model = model
    made, kept = _applied(workload)
    assert kept == [True, True]
    means, variances = [], []
    for feeds in workload.feeds():
        with torch.no_grad():
            x = model.get_submodule("stem.0")(torch.from_numpy(feeds["image"]))
        means.append(x.mean((0, 2, 3)))
        variances.append(x.movedim(1, 0).flatten(1).var(1))
    norm = made.get_submodule("stem.1")
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))
    assert (norm.momentum, norm.training) == (0.1, False)


def test_it_mends_what_a_change_of_the_weights_broke(workload: Workload) -> None:
    assert isinstance(workload.model, nn.Module)
    image = torch.from_numpy(next(workload.feeds())["image"])
    with torch.no_grad():
        wanted = workload.model(image)
        broken = copy.deepcopy(workload.model)
        broken.get_parameter("body.0.weight").mul_(2.0)  # BatchNorm makes up for any factor
        workload.model = broken
        mended, _ = _applied(workload)
        before, after = (float((m(image) - wanted).abs().mean()) for m in (broken, mended))
    assert after < 0.5 * before


def test_so_many_samples_are_enough(workload: Workload) -> None:
    seen: list[int] = []
    given = workload.calibration
    assert given is not None

    def counted() -> object:
        for feeds in given():
            seen.append(len(feeds["image"]))
            yield feeds

    workload.calibration = counted  # type: ignore[assignment]
    _applied(workload, samples=9)
    assert sum(seen) <= 24


def test_a_norm_that_is_not_called_keeps_its_statistics(workload: Workload) -> None:
    assert isinstance(workload.model, nn.Module)
    model = copy.deepcopy(workload.model)
    spare = nn.BatchNorm1d(3)
    spare.running_mean.fill_(7.0)
    model.add_module("spare", spare)
    workload.model = model
    made, kept = _applied(workload)
    assert kept == [True, True, False]
    assert bool((made.get_submodule("spare").running_mean == 7.0).all())


def test_without_a_norm_it_says_so(workload: Workload) -> None:
    workload.model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval()
    with pytest.raises(WorkloadError, match="no BatchNorm that keeps statistics"):
        _applied(workload)


def test_without_data_it_says_so(workload: Workload) -> None:
    workload.calibration = list
    with pytest.raises(CalibrationError, match="empty"):
        _applied(workload)


def test_one_value_a_channel_has_no_variance(workload: Workload) -> None:
    workload.model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(768)).eval()
    workload.calibration = lambda: [{"image": np.ones((1, 3, 16, 16), np.float32)}]
    with pytest.raises(CalibrationError, match="more than one sample"):
        _applied(workload)
