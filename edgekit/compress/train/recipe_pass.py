"""Distillation and batch-norm recalibration as steps of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgekit.compress.base import ModuleContext, ModulePass, PassReport, Trained
from edgekit.compress.train.settings import Distill, FineTune
from edgekit.errors import WorkloadError

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["BatchNormRecalibration", "Distillation"]


class Distillation(FineTune, ModulePass):
    """Fine-tune the model against the original, which it was before any pass.

    It needs ``training`` or calibration data, and no labels. See :class:`FineTune` for its keys.

    Attributes:
        student: what learns: ``same``, the model as the passes before left it, or ``smaller``, the
            smaller variant that the workload offers.
    """

    makes: ClassVar[frozenset[str]] = frozenset({"trained weights"})
    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["distill"]
    epochs: int = Field(default=5, gt=0)
    distill: Distill = Distill()
    student: Literal["same", "smaller"] = "same"

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.modules import copied  # needs torch
        from edgekit.compress.train.loop import finetune

        model = copied(self._student(workload))
        done = finetune(workload, model, self, context, label=self.type)
        tensors = sum(1 for parameter in model.parameters() if parameter.requires_grad)
        details = (
            f"{done.epochs} of {self.epochs} epochs"
            + (", stopped early since the best was before" if done.stopped else ""),
            f"Loss {done.before:.4g} before, {done.after:.4g} after",
        )
        return Trained(
            model, PassReport(self.type, tensors, len(list(model.parameters())), details)
        )

    @property
    def label(self) -> str | None:
        """What artifacts are called: nothing of their own, where the architecture stays."""
        return "distilled" if self.student == "smaller" else None

    @property
    def starts_over(self) -> bool:
        """The smaller variant has nothing of what earlier passes made."""
        return self.student == "smaller"

    def _student(self, workload: Workload) -> Workload:
        if self.student == "same":
            return workload
        if workload.smaller is None:
            raise WorkloadError(
                "offers no smaller model to teach",
                where=f"workload {workload.name!r}, pass {self.type}",
                fix="Set smaller to a function that returns the smaller variant's workload",
            )
        return workload.smaller()


class BatchNormRecalibration(ModulePass):
    """Estimate the means and variances of BatchNorm anew, after a pass that changed its inputs.

    Attributes:
        samples: calibrate on at least this many, if there are as many.
    """

    makes: ClassVar[frozenset[str]] = frozenset({"statistics"})
    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["recalibrate"]
    samples: int = Field(default=1024, gt=0)

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.modules import copied  # needs torch
        from edgekit.compress.train.recalibrate import recalibrate

        model = copied(workload)
        context.progress.update(self.type)
        changes = recalibrate(workload, model, self.samples)
        changed = sum(change.kept for change in changes)
        return Trained(model, PassReport(self.type, changed, len(changes), changes=tuple(changes)))
