"""Keeps what a pass did to a module only if it is measurably faster on the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import nn

from edgekit.compress.base import Change, ModuleContext, PassReport, Trained
from edgekit.compress.modules import copied
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.workload import Workload

__all__ = ["kept_if_faster"]


class _Settings(Protocol):
    """The keys that such passes have in common."""

    @property
    def type(self) -> str: ...
    @property
    def measured(self) -> bool: ...
    @property
    def finetune(self) -> FineTune | None: ...


def kept_if_faster(
    workload: Workload,
    candidate: nn.Module,
    changes: Sequence[Change],
    total: int,
    settings: _Settings,
    context: ModuleContext,
) -> Trained:
    """The candidate, fine-tuned, or the model as it was where the candidate is not faster.

    Args:
        workload: as it was before the pass.
        candidate: its changed model; fine-tuned in place.
        changes: what was done, or left, to get there.
        total: how many changes there could have been.
        settings: the pass; ``measured`` False keeps the candidate untimed.
        context: with a clock, or without where latency is not to be measured.

    Raises:
        EdgekitError: one of the models cannot be exported, or the fine-tuning failed.
    """
    told = ""
    if context.clock is not None and settings.measured:
        found = context.clock.compare(workload, replace(workload, model=candidate))
        told = found.told(context.clock.name)
        if not found.faster:
            undone = [_undone(one, told) if one.kept else one for one in changes]
            report = PassReport(settings.type, 0, total, (told,), changes=tuple(undone))
            return Trained(copied(workload), report)
    if settings.finetune is not None:
        finetune(workload, candidate, settings.finetune, context, label=settings.type)
    done = sum(change.kept for change in changes)
    details = (told,) if told else ()
    return Trained(
        candidate, PassReport(settings.type, done, total, details, changes=tuple(changes))
    )


def _undone(change: Change, told: str) -> Change:
    why = f"not measurably faster, {told}"
    return replace(change, after=change.before, kept=False, why=why)
