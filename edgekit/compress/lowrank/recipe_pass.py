"""Low rank as a step of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from edgekit.compress.base import ModuleContext, ModulePass, Trained
from edgekit.compress.lowrank.ranks import RankRule
from edgekit.compress.train.settings import FineTune

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["LowRank"]


class LowRank(ModulePass):
    """Write layers as chains of smaller ones, where that takes fewer MACs and less time.

    Attributes:
        method: how the error of a weight is judged: ``svd`` by itself, ``activation-svd`` by the
            output on calibration data, ``fisher-svd`` by the loss on training data.
        conv: how kxk convolutions are factorized.
        attention: whether attention blocks get smaller heads (queries with keys, values with the
            output) instead of factors in each projection.
        rank: how ranks are chosen.
        multiple: ranks are multiples of this; ``measured`` finds out what the target likes, or
            takes 16 where nothing is measured.
        exclude: patterns of qualified module names that stay as they are, with all inside them.
        finetune: fine-tuning afterwards.
        measured: undo the layers of one shape where they are not measurably faster. Needs a
            clock; the library call without one keeps them.
    """

    precision: ClassVar[str | None] = "lowrank"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros", "palette", "learnt scales"})

    type: Literal["lowrank"]
    method: Literal["svd", "activation-svd", "fisher-svd"] = "activation-svd"
    conv: Literal["tucker", "cp", "spatial", "none"] = "tucker"
    attention: bool = False
    rank: RankRule = RankRule(energy=0.95)
    multiple: Annotated[int, Field(gt=0)] | Literal["measured"] = "measured"
    exclude: tuple[str, ...] = ()
    finetune: FineTune | None = None
    measured: bool = True

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.lowrank.factorize import factorize  # needs torch

        return factorize(workload, self, context)
