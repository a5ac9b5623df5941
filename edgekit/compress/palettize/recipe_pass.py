"""Weight sharing as a step of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgekit.compress.base import ModuleContext, ModulePass, PassReport, Trained

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["Palettize"]


class Palettize(ModulePass):
    """Let each weight have few distinct values, found by k-means (Han et al. 2016).

    What is gained is size on disk, once the file is compressed or the step ``store-palettes``
    comes after it; it runs no faster, and takes as much memory, since the weights stay floats.
    BatchNorm is folded first: folding it later would give each channel values of its own.

    Attributes:
        bits: a weight has at most 2 to the power of this many values.
        exclude: globs of modules that are left alone.
        channels: output channels that share one palette; None for a palette a tensor.
    """

    precision: ClassVar[str | None] = "palette"
    makes: ClassVar[frozenset[str]] = frozenset({"palette"})
    undoes: ClassVar[frozenset[str]] = frozenset({"learnt scales"})

    type: Literal["palettize"]
    bits: int = Field(default=6, ge=1, le=8)
    exclude: tuple[str, ...] = ()
    channels: int | None = Field(default=None, gt=0)

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.modules import copied  # need torch
        from edgekit.compress.palettize.palettize import palettize
        from edgekit.compress.qat.fold import fold_batch_norm

        model = copied(workload)
        fold_batch_norm(model)
        changes, sizes = palettize(
            model,
            self.bits,
            exclude=self.exclude,
            channels=self.channels,
            where=f"workload {workload.name!r}, palettize",
            progress=context.progress,
        )
        sizes_told = (
            f"Weights take {sizes.before / 1e6:.3g} MB compressed before, "
            f"{sizes.after / 1e6:.3g} MB after: only size on disk is won"
        )
        changed = sum(change.kept for change in changes)
        return Trained(
            model,
            PassReport(self.type, changed, len(changes), (sizes_told,), changes=tuple(changes)),
        )
