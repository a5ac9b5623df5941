"""How models of the zoo are trained where their workload says how."""

from __future__ import annotations

from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.workload import Workload

__all__ = ["fit"]


def fit(workload: Workload, model: nn.Module, *, epochs: int, rate: float) -> None:
    """Train a module in place, by its workload's ``training``; it is in eval mode afterwards."""
    settings = FineTune(epochs=epochs, rate=rate)
    finetune(workload, model, settings, ModuleContext(), label=workload.name)
