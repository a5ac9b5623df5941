"""BatchNorm statistics of the model as it is now, not as it was trained."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # all of them, of any dimension

from edgekit.calibration import rows
from edgekit.compress.base import Change
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.workload import Workload

__all__ = ["batch_norms", "recalibrate"]


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The norms that keep statistics, by qualified name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def recalibrate(workload: Workload, model: nn.Module, samples: int) -> list[Change]:
    """Set ``running_mean`` and ``running_var`` to the plain average over calibration batches.

    Only the norms normalize with the batch's own statistics meanwhile; dropout stays off.

    Args:
        workload: its calibration data.
        model: changed in place; it is in eval mode afterwards.
        samples: stop after the batch that reaches as many.

    Returns:
        What changed, one norm each.

    Raises:
        WorkloadError: there is no BatchNorm with statistics.
        CalibrationError: there is no calibration data, or the statistics are not finite.
    """
    where = f"workload {workload.name!r}, recalibrate"
    norms = batch_norms(model)
    if not norms:
        raise WorkloadError(
            "there is no BatchNorm that keeps statistics",
            where=where,
            fix="Leave the step recalibrate out of the recipe",
        )
    before = {
        name: (_spread(norm), copy.deepcopy(norm.state_dict())) for name, norm in norms.items()
    }
    momenta = {name: norm.momentum for name, norm in norms.items()}
    model.eval()
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
        norm.train()
    try:
        _feed(workload, model, samples, where)
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
            norm.eval()
    return [_change(name, norm, *before[name]) for name, norm in norms.items()]


@torch.no_grad()
def _feed(workload: Workload, model: nn.Module, samples: int, where: str) -> None:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    seen = 0
    for feeds in workload.feeds():
        if seen >= samples:
            break
        inputs = [torch.tensor(feeds[name], device=device) for name in workload.example_inputs]
        try:
            model(*inputs)
        except ValueError as error:  # one value a channel has no variance
            raise CalibrationError(
                f"a batch cannot be normalized: {error}",
                where=where,
                fix="Give calibration batches of more than one sample",
            ) from error
        seen += rows(feeds)
    if seen == 0:
        raise CalibrationError(
            "calibration data is empty", where=where, fix="Give at least one batch"
        )


def _change(name: str, norm: _BatchNorm, before: str, state: dict[str, torch.Tensor]) -> Change:
    if not norm.num_batches_tracked:
        norm.load_state_dict(state)
        return Change(name, before, before, kept=False, why="forward does not call it")
    return Change(name, before, _spread(norm))


def _spread(norm: _BatchNorm) -> str:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, deviation = norm.running_mean.abs().mean(), norm.running_var.mean().sqrt()
    return f"mean {mean:.3g}, deviation {deviation:.3g}"
