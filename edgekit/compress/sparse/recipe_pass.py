"""Sparsity as steps of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from edgekit.compress.base import ModuleContext, ModulePass, Trained
from edgekit.compress.train.settings import FineTune
from edgekit.errors import RecipeError

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["Sparse", "SparseTraining"]


class Sparse(ModulePass):
    """Set weights of Linear, Conv1d and Conv2d modules to zero.

    Zeros stay zeros in everything that is trained after it. With a pattern, N of every M input
    channels stay at each position of the kernel, as TensorRT wants it; a layer whose input channels
    are not a multiple of M stays dense.

    Attributes:
        ratio: the share of weights that goes; or give ``pattern``.
        pattern: ``2:4`` or ``4:8``: how many of every so many stay.
        method: ``magnitude``; ``movement`` (goes by training); ``wanda`` and ``sparsegpt`` (go by
            calibration data; the latter also corrects the weights that stay).
        scope: ``layer``: each layer loses ``ratio``; ``global``: all together do.
        schedule: ``once``, or ``cubic``: more and more during the fine-tuning.
        finetune: the training, after or during it; None for none.
        exclude: globs of module names that stay dense. By default these are the first layer, if it
            is a convolution, and the last one, as usual (Gale et al., 2019, arXiv:1902.09574, leave
            the first dense and the last nearly so); an empty list excludes nothing.
        samples: calibrate on about this many.
    """

    precision: ClassVar[str | None] = "sparse"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["sparse"]
    ratio: float | None = Field(default=None, gt=0.0, lt=1.0)
    pattern: Literal["2:4", "4:8"] | None = None
    method: Literal["magnitude", "movement", "wanda", "sparsegpt"] = "magnitude"
    scope: Literal["layer", "global"] = "layer"
    schedule: Literal["once", "cubic"] = "once"
    finetune: FineTune | None = None
    exclude: tuple[str, ...] | None = None
    samples: int = Field(default=512, gt=0)

    @field_validator("pattern", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        """YAML 1.1 reads an unquoted 2:4 as 2 minutes and 4 seconds."""
        return f"{value // 60}:{value % 60}" if type(value) is int else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problem = self._problem()
        if problem:
            what, fix = problem
            raise RecipeError(what, where="pass sparse", fix=fix)
        return self

    def _problem(self) -> tuple[str, str] | None:
        """What two settings do not go together, and what to do."""
        if (self.ratio is None) == (self.pattern is None):
            return "wants either ratio or pattern", "Give one of them, such as ratio: 0.5"
        trains = self.finetune is not None and self.finetune.epochs > 0
        comparable = self.method in {"magnitude", "movement"} and self.pattern is None
        problems = {
            (
                "scope: global goes with ratio, and with scores that layers have in common",
                "Use method: magnitude or movement with a ratio, or scope: layer",
            ): self.scope == "global" and not comparable,
            (
                "movement is measured while the sparsity grows",
                "Set schedule: cubic, and finetune",
            ): self.method == "movement" and self.schedule == "once",
            (
                "sparsegpt corrects the weights once, it has no schedule",
                "Set schedule: once, or another method",
            ): self.method == "sparsegpt" and self.schedule == "cubic",
            (
                "schedule: cubic is spread over fine-tuning, of which there is none",
                "Set finetune, such as finetune: {epochs: 5}",
            ): self.schedule == "cubic" and not trains,
        }
        return next((problem for problem, there in problems.items() if there), None)

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.sparse.cut import cut  # needs torch

        return cut(workload, self, context)


class SparseTraining(ModulePass):
    """Train the model from scratch with few weights, whose places are found in training.

    The trained weights are not used: every module is initialized anew, by its
    ``reset_parameters``.

    Attributes:
        ratio: the share of weights that is zero, from the first step to the last.
        method: ``rigl`` grows connections where the gradient is large, ``set`` at random,
            ``static`` keeps those that it began with.
        allocation: ``erk``: small layers get more of the budget (Erdos-Renyi-kernel); ``uniform``:
            the same share for each.
        epochs: of training.
        rate: the learning rate; None for the workload's own.
        interval: steps between updates of the connections; None for 100, or fewer in a training of
            less than 1200 steps.
        exclude: globs of module names that stay dense. By default, as in RigL (Evci et al., 2020,
            arXiv:1911.11134), the first layer, if it is a convolution, with ``uniform``, and none
            with ``erk``.
    """

    precision: ClassVar[str | None] = "sparse"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    undoes: ClassVar[frozenset[str]] = frozenset(
        {"zeros", "palette", "learnt scales", "trained weights", "statistics"}
    )

    type: Literal["sparse-training"]
    ratio: float = Field(gt=0.0, lt=1.0)
    method: Literal["rigl", "set", "static"] = "rigl"
    allocation: Literal["erk", "uniform"] = "erk"
    epochs: int = Field(gt=0)
    rate: float | None = Field(default=None, gt=0.0)
    interval: int | None = Field(default=None, gt=0)
    exclude: tuple[str, ...] | None = None

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.sparse.from_scratch import train_sparse  # needs torch

        return train_sparse(workload, self, context)
