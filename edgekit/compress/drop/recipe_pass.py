"""Dropping layers as a step of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from edgekit.compress.base import ModuleContext, ModulePass, Trained
from edgekit.compress.train.settings import FineTune

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["DropLayers"]


class DropLayers(ModulePass):
    """Remove the residual blocks that matter least, such as layers of a transformer.

    Attributes:
        count: how many blocks; this or ``ratio``.
        ratio: which part of the blocks that can be removed; at least one is.
        how: ``similarity`` removes those whose output is most like their input (ShortGPT, Men et
            al., 2024, arXiv:2403.03853), ``loss`` those whose absence alone changes the model's
            outputs least, ``every-other`` evenly spaced ones (DistilBERT, Sanh et al., 2019,
            arXiv:1910.01108), ``last`` the last ones.
        finetune: training afterwards; None for none.
        measured: keep it only if it is measurably faster, where there is a clock.
    """

    precision: ClassVar[str | None] = "dropped"
    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["drop-layers"]
    count: int | None = Field(default=None, ge=1)
    ratio: float | None = Field(default=None, gt=0.0, lt=1.0)
    how: Literal["similarity", "every-other", "last", "loss"] = "similarity"
    finetune: FineTune | None = None
    measured: bool = True

    @model_validator(mode="after")
    def _one_amount(self) -> DropLayers:
        if (self.count is None) == (self.ratio is None):
            raise ValueError("give either count or ratio")
        return self

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.drop.drop import drop_layers  # needs torch

        return drop_layers(workload, self, context)
