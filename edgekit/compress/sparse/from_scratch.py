"""Train a sparse model from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compress.base import ModuleContext, Trained
from edgekit.compress.modules import copied
from edgekit.compress.sparse.allocation import erdos_renyi_kernel, uniform
from edgekit.compress.sparse.cut import require_steps
from edgekit.compress.sparse.dynamic import DynamicSparsity, reset_weights
from edgekit.compress.sparse.layers import choose_layers
from edgekit.compress.sparse.report import make_report
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.workload import Workload

if TYPE_CHECKING:
    from edgekit.compress.sparse.recipe_pass import SparseTraining

__all__ = ["train_sparse"]


def train_sparse(workload: Workload, step: SparseTraining, context: ModuleContext) -> Trained:
    """Apply the pass ``sparse-training``, see :class:`~.recipe_pass.SparseTraining`.

    Raises:
        CompressError: ``exclude`` matches nothing, or no layer is left.
        WorkloadError: the workload has no ``training``, or it diverged.
    """
    require_steps(workload, "sparse training")
    model = copied(workload)
    kept = reset_weights(model, context.seed)
    choice = choose_layers(model, step.exclude, None, ends=(step.allocation == "uniform", False))
    allocate = uniform if step.allocation == "uniform" else erdos_renyi_kernel
    counts = allocate(
        {name: layer.weight.shape for name, layer in choice.layers.items()}, step.ratio
    )
    masks = DynamicSparsity(choice.layers, counts, step.method, step.interval, context.seed)
    settings = FineTune(epochs=step.epochs, rate=step.rate)
    finetune(
        workload, model, settings, context, label=step.type, after_step=masks, keep_zeros=False
    )
    notes = [f"kept their trained weights, having no reset_parameters: {', '.join(kept)}"]
    return Trained(
        model, make_report(step.type, workload, model, choice, context, notes if kept else ())
    )
