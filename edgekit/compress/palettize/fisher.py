"""How much the loss minds an error in each weight."""

from __future__ import annotations

from itertools import islice

import torch
from torch import nn

from edgekit.compress.modules import named_outputs
from edgekit.compress.train.data import training_data
from edgekit.errors import WorkloadError
from edgekit.spec import Array
from edgekit.workload import Workload

__all__ = ["squared_gradients"]

_BATCHES = 16


def squared_gradients(workload: Workload, model: nn.Module) -> dict[str, Array]:
    """The empirical Fisher's diagonal: mean squared gradient of the loss, a batch each.

    Args:
        workload: its ``training``.
        model: in eval mode, and unchanged.

    Returns:
        float32 arrays of the parameters' shapes by name; parameters without a gradient lack.

    Raises:
        WorkloadError: there is no ``training``, or a gradient is not finite.
    """
    where = f"workload {workload.name!r}, palettize with fisher"
    if workload.training is None:
        raise WorkloadError(
            "has no training, which gradients need",
            where=where,
            fix="Set training=Training(batches, loss), or leave fisher out",
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    data = training_data(workload, device, 0)
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums: dict[str, torch.Tensor] = {}
    count = 0
    for batch in islice(data.batches(0), _BATCHES):
        outputs = model(*(batch[name] for name in workload.example_inputs))
        loss = workload.training.loss(named_outputs(outputs, workload.output_names), batch)
        found = torch.autograd.grad(loss, list(learnt.values()), allow_unused=True)
        for name, gradient in zip(learnt, found, strict=True):
            if gradient is not None:
                sums[name] = sums.get(name, torch.zeros_like(gradient)) + gradient.square()
        count += 1
    for name, total in sums.items():
        if not bool(torch.isfinite(total).all()):
            raise WorkloadError(
                f"the gradient of {name!r} is not finite",
                where=where,
                fix="Look for NaN in the training data, or leave fisher out",
            )
    return {name: (total / count).cpu().numpy() for name, total in sums.items()}
