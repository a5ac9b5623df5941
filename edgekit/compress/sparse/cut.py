"""Make a trained model sparse: at once, or during fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgekit.compress.base import Change, ModuleContext, Trained
from edgekit.compress.modules import copied
from edgekit.compress.sparse.base import Evidence, Method
from edgekit.compress.sparse.gradual import Gradual, choose_masks
from edgekit.compress.sparse.inputs import collect
from edgekit.compress.sparse.layers import (
    Choice,
    SparseLayer,
    choose_layers,
    from_matrix,
    to_matrix,
)
from edgekit.compress.sparse.magnitude import Magnitude
from edgekit.compress.sparse.masks import Pattern, Sparsity
from edgekit.compress.sparse.movement import Movement
from edgekit.compress.sparse.report import make_report
from edgekit.compress.sparse.sparsegpt import SparseGpt
from edgekit.compress.sparse.wanda import Wanda
from edgekit.compress.sparse.zeros import hold_zeros
from edgekit.compress.train.loop import finetune
from edgekit.errors import CompressError, WorkloadError
from edgekit.workload import Workload

if TYPE_CHECKING:
    from edgekit.compress.sparse.recipe_pass import Sparse

__all__ = ["METHODS", "cut", "require_steps"]

METHODS: dict[str, type[Method]] = {
    "magnitude": Magnitude,
    "movement": Movement,
    "wanda": Wanda,
    "sparsegpt": SparseGpt,
}


def cut(workload: Workload, step: Sparse, context: ModuleContext) -> Trained:
    """Apply the pass ``sparse`` with its settings, see :class:`~.recipe_pass.Sparse`.

    Raises:
        CompressError: ``exclude`` matches nothing, no layer is left, or a layer would be all zero.
        CalibrationError: the method needs calibration data, which is missing or bad.
        WorkloadError: the workload cannot train, and has to.
    """
    if step.schedule == "cubic":
        require_steps(workload, "schedule: cubic")
    model, method = copied(workload), METHODS[step.method]()
    pattern = None if step.pattern is None else Pattern.parse(step.pattern)
    choice = choose_layers(model, step.exclude, pattern)
    evidence: dict[str, Evidence] = {}
    if method.inputs != "none":
        evidence = collect(
            model,
            choice.layers,
            workload.feeds(),
            list(workload.example_inputs),
            samples=step.samples,
            moments=method.inputs == "moment",
        )
        choice = _called(choice, evidence)
    sparsity: Sparsity = pattern if pattern is not None else step.ratio or 0.0
    across = step.scope == "global"
    if step.schedule == "cubic":
        assert step.finetune is not None
        grow = Gradual(choice.layers, method, evidence, sparsity, across=across)
        finetune(workload, model, step.finetune, context, label=step.type, after_step=grow)
    else:
        _cut_once(choice.layers, method, evidence, sparsity, across=across)
        if step.finetune is not None:
            with hold_zeros(model, least=0.0):
                finetune(workload, model, step.finetune, context, label=step.type)
    _require_weights(choice.layers)
    return Trained(model, make_report(step.type, workload, model, choice, context))


def require_steps(workload: Workload, what: str) -> None:
    """See that edgekit itself can train the workload's model, step by step.

    Raises:
        WorkloadError: it has no ``training``.
    """
    if workload.training is None:
        raise WorkloadError(
            f"has no training, which {what} needs: masks change between its steps",
            where=f"workload {workload.name!r}",
            fix="Set training=Training(batches, loss)",
        )


def _called(choice: Choice, evidence: Mapping[str, Evidence]) -> Choice:
    """Only the layers that calibration data reached."""
    why = "its forward is never called with calibration data"
    left = [
        Change(name, "dense", "dense", kept=False, why=why)
        for name in choice.layers
        if name not in evidence
    ]
    layers = {name: layer for name, layer in choice.layers.items() if name in evidence}
    return Choice(layers, (*choice.left, *left))


@torch.no_grad()
def _cut_once(
    layers: Mapping[str, SparseLayer],
    method: Method,
    evidence: Mapping[str, Evidence],
    sparsity: Sparsity,
    *,
    across: bool,
) -> None:
    known = {name: evidence.get(name, Evidence()) for name in layers}
    weights = {name: to_matrix(layer, layer.weight) for name, layer in layers.items()}
    if across:
        scores = {name: method.score(weights[name], known[name]) for name in layers}
        masks = choose_masks(scores, method, sparsity, across=True)
        made = {name: torch.where(masks[name], weights[name], 0.0) for name in layers}
    else:
        made = {name: method.sparsify(weights[name], known[name], sparsity) for name in layers}
    for name, layer in layers.items():
        layer.weight.copy_(from_matrix(layer, made[name]))


def _require_weights(layers: Mapping[str, nn.Module]) -> None:
    """See that no layer has become all zero: nothing would pass it."""
    for name, layer in layers.items():
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        if not bool(weight.any()):
            raise CompressError(
                "would have no weight left",
                where=f"module {name!r}",
                fix="Lower ratio, set scope: layer, or name the module in exclude",
            )
