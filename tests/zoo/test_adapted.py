from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgekit.zoo import _adapted, _episodes, maml, reptile
from edgekit.zoo._adapted import Adapt
from edgekit.zoo._entry import Made


def _start(entry: Made) -> nn.Module:
    model = entry.build()
    model.load_state_dict(load_file(entry.checkpoint))
    return model


def _mean_accuracy(start: nn.Module, adapt: Adapt, tasks: int) -> float:
    right = []
    for seed in range(1, 1 + tasks):  # the workload has the task of seed 0
        generator = torch.Generator().manual_seed(seed)
        one = _episodes.episode(_episodes.unseen(), 5, 5, 10, generator)
        learner = _adapted.settled(start, one.support, adapt)
        with torch.no_grad():
            right.append(learner(one.query).argmax(1) == one.label)
    return torch.cat(right).float().mean().item()


@pytest.mark.parametrize(
    ("entry", "adapt"), [(maml._ENTRY, maml._adapt), (reptile._ENTRY, reptile._adapt)]
)
def test_its_start_learns_any_characters_and_not_only_those_of_the_workload(
    entry: Made, adapt: Adapt
) -> None:
    learned = _mean_accuracy(_start(entry), adapt, 20)
    torch.manual_seed(0)
    assert learned > 0.9
    assert learned > _mean_accuracy(_adapted.start(), adapt, 20) + 0.3


def test_the_nearest_neighbour_on_pixels_is_as_good_as_the_entry_says() -> None:
    one = _adapted.task(0)
    apart = torch.cdist(one.query.flatten(1), one.support.flatten(0, 1).flatten(1))
    right = apart.argmin(1) // _adapted.SHOTS == one.label
    assert abs(right.float().mean().item() - 0.62) < 0.01


def test_adapting_leaves_the_start_as_it_was() -> None:
    start = _start(maml._ENTRY)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    _adapted.settled(start, _adapted.task(0).support, maml._adapt)
    for name, value in start.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_gradient_of_maml_goes_through_its_step() -> None:
    """Compared with finite differences along the gradient, in double precision."""
    torch.manual_seed(0)
    start = _start(maml._ENTRY).double().train()
    generator = torch.Generator().manual_seed(3)
    one = _episodes.episode(_episodes.seen(), 5, 5, 5, generator)
    one = _episodes.Episode(one.support.double(), one.query.double(), one.label)
    maml._loss_after_a_step(start, one).backward()
    parameters = list(start.parameters())
    direction = [p.grad / p.grad.norm() for p in parameters if p.grad is not None]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True))

    def moved(by: float) -> float:
        with torch.no_grad():
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(way, alpha=by)
        loss = float(maml._loss_after_a_step(start, one).detach())
        with torch.no_grad():
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(way, alpha=-by)
        return loss

    assert (moved(1e-6) - moved(-1e-6)) / 2e-6 == pytest.approx(slope, rel=1e-3)


def test_reptile_takes_the_steps_of_all_tasks_at_once_as_one_after_the_other() -> None:
    torch.manual_seed(0)
    start = reptile._ENTRY.build().double()
    generator = torch.Generator().manual_seed(0)
    drawings = _episodes.episode(_episodes.seen(), 15, 6, 0, generator).support.double()
    together = reptile._ends(start, drawings.unflatten(0, (3, 5)))
    labels = torch.arange(5).repeat_interleave(2)
    for task, shown in enumerate(drawings.split(5)):
        learner = copy.deepcopy(start).train()
        optimizer = torch.optim.SGD(learner.parameters(), 0.4)
        for few in shown.split(2, dim=1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(learner(few.flatten(0, 1)), labels).backward()
            optimizer.step()
        for name, alone in learner.named_parameters():
            torch.testing.assert_close(together[name][task], alone)


def test_adapted_batch_norms_hold_the_statistics_of_the_drawings() -> None:
    support = _adapted.task(0).support
    learner = _adapted.settled(_start(maml._ENTRY), support, maml._adapt)
    norm = learner[0][1]
    with torch.no_grad():
        wanted = learner[0][0](support.flatten(0, 1)).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, wanted, rtol=1e-3, atol=1e-4)
    assert (norm.running_var > 0).all()
