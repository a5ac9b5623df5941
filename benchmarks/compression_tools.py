"""The pruners that the benchmark compares: each makes a smaller (or sparser) copy of a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("NNCF_CI", "1")  # no telemetry

import nncf
import torch
import torch_pruning
from torch import nn
from torch.nn.utils import prune as torch_prune

from edgekit.compress.base import ModuleContext, pass_types
from edgekit.compress.modules import copied, count_macs, example_tensors
from edgekit.workload import Workload

#: ``tool(workload, share of the MACs or of the weights that stays)`` gives the pruned module.
Tool = Callable[[Workload, float], nn.Module]


def edgekit(importance: str) -> Tool:
    def tool(workload: Workload, share: float) -> nn.Module:
        settings = {"type": "prune", "keep": share, "importance": importance, "measured": False}
        step = pass_types()["prune"].model_validate({**settings, "multiple": 8})
        return step.apply(workload, ModuleContext()).model

    return tool


def torch_pruning_tool(workload: Workload, share: float) -> nn.Module:
    """Group L2 importance, global; the ratio of channels is bisected until the MACs fit."""
    inputs = example_tensors(workload)
    whole = count_macs(copied(workload), inputs)
    low, high, best = 0.0, 0.98, copied(workload)
    for _ in range(10):
        ratio = (low + high) / 2
        model = copied(workload)
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        pruner = torch_pruning.pruner.BasePruner(
            model,
            tuple(inputs.values()),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            global_pruning=True,
            round_to=8,
            ignored_layers=[last],
        )
        pruner.step()
        if count_macs(model, inputs) / whole > share:
            low = ratio
        else:
            high, best = ratio, model
    return best


def torch_mask(workload: Workload, share: float) -> nn.Module:
    """L2-structured masks: channels become zero, shapes stay."""
    model = copied(workload)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 1:
            torch_prune.ln_structured(module, "weight", amount=1 - share**0.5, n=2, dim=0)
            torch_prune.remove(module, "weight")
    return model


def nncf_mask(workload: Workload, share: float) -> nn.Module:
    """Unstructured magnitude over all layers: weights become zero, shapes stay."""
    model = nncf.prune(
        _Held(copied(workload)),  # it adds a child module, which a Sequential would run
        mode=nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL,
        ratio=1 - share,
        examples_inputs=next(iter(example_tensors(workload).values())),
    )
    model = nncf.strip(model, do_copy=False, strip_format=nncf.StripFormat.IN_PLACE)
    return model.held


class _Held(nn.Module):
    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.held = held

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.held(x)


def smaller(workload: Workload, share: float) -> nn.Module:
    """Not pruned at all: the variant of half the width, trained from scratch."""
    del share
    assert workload.smaller is not None
    return copied(workload.smaller())


TOOLS: dict[str, Tool] = {
    "Torch-Pruning": torch_pruning_tool,
    "edgekit l2": edgekit("l2"),
    "edgekit wanda": edgekit("wanda"),
    "edgekit taylor": edgekit("taylor"),
    "torch.nn.utils.prune": torch_mask,
    "NNCF": nncf_mask,
}


def as_workload(workload: Workload, model: nn.Module) -> Workload:
    return replace(workload, model=model.eval())


def sparsity(model: nn.Module) -> float:
    """The share of zeros among all weights."""
    weights = [p.detach() for p in model.parameters() if p.ndim > 1]
    return float(sum((w == 0).sum() for w in weights) / sum(w.numel() for w in weights))
