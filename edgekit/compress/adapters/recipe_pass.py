"""Merging an adapter as a step of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgekit.compress.base import ModuleContext, ModulePass, PassReport, Trained

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["MergeAdapter"]


class MergeAdapter(ModulePass):
    """Add what a peft adapter has learnt to the weights, so that nothing is left to compute.

    LoRA (Hu et al. 2021), also rank-stabilized and of convolutions and embeddings, DoRA (Liu et
    al. 2024) and (IA)^3 (Liu et al. 2022). It computes the same, but for float rounding.

    Attributes:
        path: the folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
    """

    redefines: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"trained weights"})

    type: Literal["merge-adapter"]
    path: Path

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.adapters.checkpoint import read_adapter  # need torch
        from edgekit.compress.adapters.merge import merge_adapter
        from edgekit.compress.modules import copied

        context.progress.update(f"{self.type} {self.path.name}")
        model = copied(workload)
        changes = merge_adapter(model, read_adapter(self.path))
        total = sum(1 for _ in model.modules())
        return Trained(model, PassReport(self.type, len(changes), total, changes=tuple(changes)))
