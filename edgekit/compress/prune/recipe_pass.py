"""Structured pruning as a step of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from edgekit.compress.base import ModuleContext, ModulePass, Trained
from edgekit.compress.train.settings import FineTune

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["StructuredPruning"]


class StructuredPruning(ModulePass):
    """Remove channels, heads, hidden units: what is left is a plain, smaller module.

    Attributes:
        keep: the share of ``of`` that stays.
        of: what ``keep`` is a share of: ``macs``, ``parameters``, or ``channels``.
        importance: which units go first: ``l1``, ``l2``, ``norm-scale``, ``taylor``, ``obd``,
            ``wanda`` or ``random``.
        scope: take the same share of each group (``layer``), or rank all units together
            (``global``).
        multiple: of channels that a pruned group keeps; ``measured`` finds out what the target
            likes, or takes 16 where nothing is measured.
        least: the least share of its units that a group keeps.
        steps: prune in so many steps, each with importance judged anew.
        between: fine-tuning after each step but the last.
        finetune: fine-tuning after the last step.
        exclude: names of modules whose channels stay, with ``*`` and ``?``.
        measured: leave a group whole where pruning it is not faster on the target.
    """

    precision: ClassVar[str | None] = "pruned"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "palette", "learnt scales"})

    type: Literal["prune"]
    keep: float = Field(default=0.5, gt=0.0, lt=1.0)
    of: Literal["macs", "parameters", "channels"] = "macs"
    importance: Literal["l1", "l2", "norm-scale", "taylor", "obd", "wanda", "random"] = "l2"
    scope: Literal["global", "layer"] = "layer"
    multiple: Annotated[int, Field(gt=0)] | Literal["measured"] = "measured"
    least: float = Field(default=0.25, gt=0.0, le=1.0)
    steps: int = Field(default=1, ge=1)
    between: FineTune | None = None
    finetune: FineTune | None = None
    exclude: tuple[str, ...] = ()
    measured: bool = True

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.prune.structured import prune  # needs torch

        return prune(workload, self, context)
