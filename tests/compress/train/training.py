"""What tests of training share: a trained teacher, an untrained student, no surprises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.run import FineTuned
from edgekit.compress.train.settings import FineTune
from edgekit.workload import Training, Workload
from edgekit.zoo import mlp_digits

__all__ = ["DISTILL", "KEYS", "Counting", "same", "small_student", "state", "train", "unlabelled"]

DISTILL = {"features": ["1", ["3", "3"]]}
KEYS: dict[str, Any] = {"epochs": 3, "rate": 1e-2, "distill": DISTILL, "checkpoint_seconds": 0}


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


def train(
    workload: Workload, folder: Path | None, model: nn.Module | None = None, **keys: Any
) -> tuple[nn.Module, FineTuned]:
    student = small_student(dropout=True) if model is None else model
    context = ModuleContext(folder=folder, seed=keys.pop("seed", 0))
    settings = FineTune.model_validate(KEYS | keys)
    return student, finetune(workload, student, settings, context, label="a test")


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, state(first), state(second)))


class Counting:
    """Counts the losses that are trained on."""

    def __init__(self, workload: Workload) -> None:
        training = workload.training
        assert training is not None
        self.losses = 0

        def loss(outputs: Any, batch: Any) -> torch.Tensor:
            self.losses += torch.is_grad_enabled()
            return training.loss(outputs, batch)

        workload.training = Training(training.batches, loss, training.rate)
        self.workload = workload
