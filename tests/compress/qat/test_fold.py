"""Folding keeps what the model computes, and leaves alone what it cannot fold."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.compress.qat.fold import fold_batch_norm


def _with_statistics(model: nn.Module, *shape: int) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.weight) if module.affine else None
            nn.init.normal_(module.bias) if module.affine else None
    model.train()
    for _ in range(5):
        model(torch.randn(shape) * 2 + 1)
    return model.eval()


def _sqnr(model: nn.Module, folded: nn.Module, *shape: int) -> float:
    x = torch.randn(shape)
    with torch.no_grad():
        wanted, got = model(x).double(), folded(x).double()
    return float(10 * torch.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


def _norms(model: nn.Module) -> int:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return sum(isinstance(module, kinds) for module in model.modules())


class _Residual(nn.Module):
    """The norm is declared before its conv, and the other norm follows a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.after_sum = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after_sum(self.norm(self.conv(x)) + x)


class _Branching(nn.Module):
    """torch.fx cannot trace a branch on values."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Sequential(nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5), nn.ReLU())
        self.outer = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), _Sign())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stack(x).mean(-1)
        return self.outer(x) if x.sum() > 0 else self.outer(-x)


class _Sign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class _TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(self.conv(x)))


class _SamePadding(nn.Conv2d):
    """Written outside torch, as EfficientNet's convolutions are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


class _ConvRelu(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x))


class _NormRelu(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x))


@pytest.mark.parametrize(
    ("model", "shape", "folds"),
    [
        (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (8, 6), 1),
        (nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False)), (8, 6), 1),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 9), 1),
        (nn.Sequential(nn.Conv3d(2, 4, 3, dilation=2), nn.BatchNorm3d(4)), (2, 2, 7, 7, 7), 1),
        (nn.Sequential(_SamePadding(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8), 1),
        (_Residual(), (2, 6, 8, 8), 1),
        (_Branching(), (4, 4, 9), 2),
        (_TwoReaders(), (2, 3, 4, 4), 0),
        (_Twice(), (2, 3, 4, 4), 0),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), (2, 3, 4, 4), 0),
        (nn.Sequential(_ConvRelu(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8), 0),
        (nn.Sequential(nn.Conv2d(3, 4, 3), _NormRelu(4)), (2, 3, 8, 8), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_folding_keeps_the_function(model: nn.Module, shape: tuple[int, ...], folds: int) -> None:
    _with_statistics(model, *shape)
    folded = copy.deepcopy(model)
    assert fold_batch_norm(folded) == folds
    assert _norms(folded) == _norms(model) - folds
    assert _sqnr(model, folded, *shape) > 80.0


def test_a_norm_in_training_mode_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert fold_batch_norm(model.train()) == 0


def test_a_norm_without_running_statistics_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert fold_batch_norm(model.eval()) == 0


def test_shared_weights_stay() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, nn.BatchNorm1d(4), second)
    assert fold_batch_norm(model.eval()) == 0


def test_frozen_layers_stay_frozen() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)).requires_grad_(
        requires_grad=False
    )
    assert fold_batch_norm(model.eval()) == 1
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_shared_fixture_folds(network: nn.Module) -> None:
    folded = copy.deepcopy(network)
    assert fold_batch_norm(folded) == 2
    assert _sqnr(network, folded, 4, 3, 16, 16) > 80.0
