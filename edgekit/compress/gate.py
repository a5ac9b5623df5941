"""Keeps what a pass did to a module only if it is measurably faster on the target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.compress.base import Change, ModuleContext

if TYPE_CHECKING:
    import torch

    from edgekit.workload import Workload

__all__ = ["Verdict", "judge_speed", "undo"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate is to be kept.

    Attributes:
        keep: True also where nothing was measured.
        told: the figures, one line for people; empty where nothing was measured.
    """

    keep: bool
    told: str = ""


def judge_speed(
    workload: Workload, candidate: torch.nn.Module, context: ModuleContext, *, measured: bool
) -> Verdict:
    """Time ``candidate`` against the workload's model.

    Args:
        workload: as it was before the pass.
        candidate: its changed model.
        context: with a clock, or without where latency is not to be measured.
        measured: False to keep the candidate untimed.

    Raises:
        EdgekitError: one of them cannot be exported.
    """
    if context.clock is None or not measured:
        return Verdict(keep=True)
    found = context.clock.compare(workload, replace(workload, model=candidate))
    told = f"{context.clock.name}: {found.ratio:.2f} times as fast, at least {found.low:.2f}"
    return Verdict(found.low > 1.0, told)


def undo(changes: Iterable[Change], verdict: Verdict) -> tuple[Change, ...]:
    """The changes, those that were kept now as undone because of the verdict."""
    why = f"not measurably faster, {verdict.told}"
    return tuple(
        replace(one, after=one.before, kept=False, why=why) if one.kept else one for one in changes
    )
