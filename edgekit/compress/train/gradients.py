"""Gradients of the training loss, for what judges weights by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import torch
from torch import nn

from edgekit.compress.modules import named_outputs
from edgekit.compress.train.loop import blaming
from edgekit.errors import WorkloadError
from edgekit.workload import Workload

__all__ = ["training_gradients"]


def training_gradients(
    workload: Workload,
    model: nn.Module,
    parameters: Mapping[str, torch.Tensor],
    *,
    batches: int,
    needed_by: str,
    otherwise: str,
) -> Iterator[dict[str, torch.Tensor]]:
    """By name the gradient of each batch's loss; those without one are left out.

    Args:
        workload: needs ``training``.
        model: in eval mode; its own gradients are not touched.
        parameters: of ``model``; frozen ones have a gradient here, too.
        batches: the first ones of epoch 0 up to this many.
        needed_by: what needs the gradients, for the error.
        otherwise: what else the user could choose, for the error.

    Raises:
        WorkloadError: there is no ``training``, it raised, it has no batches, or a gradient is
            not finite.
    """
    training, where = workload.training, f"workload {workload.name!r}"
    if training is None:
        raise WorkloadError(
            f"has no training, which {needed_by} needs for gradients",
            where=where,
            fix=f"Set training=Training(batches, loss), or {otherwise}",
        )
    where, seen = f"{where}, training", False
    with _differentiable(parameters.values()), blaming(where):
        for batch in islice(training.batches(0), batches):
            result = model(*(batch[name] for name in workload.example_inputs))
            loss = training.loss(named_outputs(result, workload.output_names), batch)
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            pairs = zip(parameters, found, strict=True)
            gradients = {name: gradient for name, gradient in pairs if gradient is not None}
            _require_finite(gradients, where)
            yield gradients
            seen = True
    if not seen:
        raise WorkloadError("gives no batches", where=where, fix="Give at least one batch")


@contextmanager
def _differentiable(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    frozen = [tensor for tensor in tensors if not tensor.requires_grad]
    try:
        for tensor in frozen:
            tensor.requires_grad_()
        yield
    finally:
        for tensor in frozen:
            tensor.requires_grad = False


def _require_finite(gradients: Mapping[str, torch.Tensor], where: str) -> None:
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise WorkloadError(
                f"the gradient of {name!r} is NaN or infinite",
                where=where,
                fix="Check the loss on the first batches",
            )
