"""The one training loop of every pass that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import named_outputs, require_finite, require_training
from edgekit.compress.train.settings import FineTune
from edgekit.errors import EdgekitError, WorkloadError
from edgekit.workload import Training, Workload

__all__ = ["blaming", "finetune"]


def finetune(
    workload: Workload,
    model: nn.Module,
    settings: FineTune,
    context: ModuleContext,
    *,
    label: str,
    after_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``model`` in place; it is in eval mode afterwards.

    Args:
        workload: its ``finetune`` if it has one, else its ``training``.
        model: a changed copy of the workload's model.
        settings: how long, how fast.
        context: seed and progress.
        label: what it is for, in progress, errors and names of checkpoints.
        after_step: ``after_step(step, steps)`` is called after each step of the optimizer, to keep
            masks and the like; needs ``training``.

    Raises:
        WorkloadError: the workload cannot train, or its function raised.
    """
    if settings.epochs == 0:
        return
    require_training(workload, label)
    where = f"workload {workload.name!r}, {label}"
    with blaming(f"{where}, {'training' if workload.finetune is None else 'finetune'}"):
        if workload.training is not None and (workload.finetune is None or after_step is not None):
            _train(workload, workload.training, model, settings, context, label, after_step)
        elif workload.finetune is not None:
            workload.finetune(model, settings.epochs)
    model.eval()
    require_finite(model, where)


def _train(
    workload: Workload,
    training: Training,
    model: nn.Module,
    settings: FineTune,
    context: ModuleContext,
    label: str,
    after_step: Callable[[int, int], None] | None,
) -> None:
    torch.manual_seed(context.seed)
    rate = settings.rate or training.rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    per_epoch = sum(1 for _ in training.batches(0))
    steps = settings.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    step = 0
    model.train()
    for epoch in range(settings.epochs):
        for batch in training.batches(epoch):
            optimizer.zero_grad()
            training.loss(_outputs(workload, model, batch), batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            if after_step is not None:
                after_step(step, steps)
            context.progress.update(f"{label}, step {step} of {steps}")


def _outputs(
    workload: Workload, model: nn.Module, batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    result = model(*(batch[name] for name in workload.example_inputs))
    return named_outputs(result, workload.output_names)


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Training runs the user's functions: say that it was there."""
    try:
        yield
    except EdgekitError:
        raise
    except Exception as error:  # the user's own code
        raise WorkloadError(
            f"raised {type(error).__name__}: {error}",
            where=where,
            fix="Mend that function; --debug shows the traceback",
        ) from error
