"""Moments of inputs and Fisher information of rows, and every way the data can be bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.lowrank.statistics import fisher_rows, input_moments
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.spec import Feeds
from edgekit.workload import Training, Workload


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(image)).mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return _Net().eval()


def _layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    return {"conv": model.conv, "head": model.head}


def _feeds(count: int = 3) -> Iterator[Feeds]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield {"image": generator.standard_normal((2, 3, 50, 50)).astype(np.float32)}


def test_moments_are_those_of_all_inputs_together(model: nn.Module) -> None:
    found = input_moments(model, _layers(model), _feeds(), ["image"])
    images = torch.from_numpy(np.concatenate([feeds["image"] for feeds in _feeds()])).double()
    pixels = images.movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(found["conv"].moment, pixels.T @ pixels / len(pixels))
    torch.testing.assert_close(found["conv"].mean, pixels.mean(0))
    assert found["conv"].count == len(pixels)
    hidden = torch.relu(model.double().conv(images)).mean((2, 3)).detach()
    torch.testing.assert_close(found["head"].moment, hidden.T @ hidden / 6, rtol=1e-5, atol=1e-7)


def test_no_hook_is_left_even_after_an_error(model: nn.Module) -> None:
    bad = [{"image": np.zeros((1, 3, 1, 1), np.float32)}]
    with pytest.raises(CalibrationError, match="forward raised"):
        input_moments(model, _layers(model), bad, ["image"])
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ([], "empty"),
        ([{"picture": np.zeros((1, 3, 5, 5), np.float32)}], "has no input 'image'"),
        (
            [{"image": np.full((1, 3, 5, 5), np.nan, np.float32)}],
            "calibration batch 0: gives layer 'conv' an input with NaN",
        ),
    ],
)
def test_bad_calibration_data_is_named(model: nn.Module, feeds: list[Feeds], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        input_moments(model, _layers(model), feeds, ["image"])


def _workload(model: nn.Module, factor: float = 1.0) -> Workload:
    def batches(epoch: int) -> Iterator[Mapping[str, torch.Tensor]]:
        for feeds in _feeds(2):
            yield {"image": torch.from_numpy(feeds["image"])}

    def loss(outputs: Mapping[str, torch.Tensor], _: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (outputs["output"][:, 0] * factor).sum()

    return Workload(
        "net",
        model,
        {"image": torch.zeros(1, 3, 5, 5)},
        training=Training(batches, loss),
    )


def test_rows_that_move_the_loss_weigh_more(model: nn.Module) -> None:
    rows = fisher_rows(_workload(model), model, _layers(model))
    assert rows["head"][0] == pytest.approx(5**0.5)
    torch.testing.assert_close(rows["head"][1:], torch.full((4,), 0.01, dtype=torch.float64))
    assert rows["conv"].shape == (4,)


def test_fisher_touches_neither_gradients_nor_frozen_weights(model: nn.Module) -> None:
    model.conv.requires_grad_(requires_grad=False)
    rows = fisher_rows(_workload(model), model, _layers(model))
    assert len(set(rows["conv"].tolist())) > 1
    assert not model.conv.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_without_gradient_has_like_rows(model: nn.Module) -> None:
    rows = fisher_rows(_workload(model), model, {"unused": model.unused})
    assert rows["unused"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": None}, "has no training, which fisher-svd needs for gradients"),
        ({"training": Training(lambda _: [], lambda *_: torch.zeros(()))}, "gives no batches"),
        (
            {"training": Training(lambda _: [{}], lambda *_: torch.zeros(()))},
            "training: raised KeyError",
        ),
    ],
)
def test_training_that_cannot_be_used_is_named(
    model: nn.Module, change: dict[str, object], message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        fisher_rows(replace(_workload(model), **change), model, _layers(model))


def test_a_gradient_that_is_not_finite_is_named(model: nn.Module) -> None:
    with pytest.raises(WorkloadError, match="gradient of 'conv' is NaN or infinite"):
        fisher_rows(_workload(model, factor=float("inf")), model, _layers(model))
