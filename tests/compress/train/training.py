"""What tests of training share: a trained teacher, an untrained student, no surprises."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.workload import Workload
from edgekit.zoo import mlp_digits

__all__ = ["small_student", "state", "unlabelled"]


def small_student(width: int = 12, *, dropout: bool = False) -> nn.Module:
    """A fifth of the width of ``zoo:mlp-digits``, untrained; the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(64, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width),
            nn.Dropout(0.1) if dropout else nn.ReLU(),
            nn.Linear(width, 10),
        )


def unlabelled() -> Workload:
    """``zoo:mlp-digits`` without training and metric: only calibration data."""
    workload = mlp_digits.workload()
    workload.training = workload.evaluate = workload.metric = None
    return workload


def state(model: nn.Module) -> list[torch.Tensor]:
    """Copies of all parameters and buffers."""
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]
