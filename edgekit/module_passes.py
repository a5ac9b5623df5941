"""Run the steps of a recipe that change the PyTorch module, and check around each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from edgekit.built import Changed
from edgekit.compress.base import Learned, ModuleContext, ModulePass, PassReport
from edgekit.compress.modules import (
    check_module,
    copied,
    count_macs,
    count_parameters,
    example_tensors,
)
from edgekit.manifest import PassChange, PassRecord
from edgekit.reference import reference_predict
from edgekit.workload import Workload

__all__ = ["run_module_passes"]


def run_module_passes(
    workload: Workload, passes: Sequence[ModulePass], context: ModuleContext
) -> Changed:
    """Apply the passes in order, each to what the one before it made.

    Everything random is seeded; the random state of the process is as it was afterwards.

    Raises:
        EdgekitError: a pass cannot be applied, or left a module that does not fit the workload.
    """
    learned: dict[str, Learned] = {}
    labels: list[str] = []
    records = []
    changed = workload
    copied(workload)  # an ONNX file, or a module that cannot be copied, is refused here
    state = torch.random.get_rng_state()
    try:
        for step in passes:
            context.progress.stage(step.type)
            torch.manual_seed(context.seed)
            started = time.monotonic()
            trained = step.apply(changed, context)
            check_module(changed, trained.model, step.type)
            after = replace(changed, model=trained.model)
            seconds = time.monotonic() - started
            records.append(_record(trained.report, changed, after, seconds))
            if trained.report.changed:
                changed = after
                learned |= trained.learned
                labels += [step.label] if step.label else []
    finally:
        torch.random.set_rng_state(state)
    label = "-".join(dict.fromkeys(labels))
    if not (label or learned):
        label = "tuned"  # what changed the weights alone still needs a name of its own
    return Changed(changed, label, learned, tuple(records))


def _record(report: PassReport, before: Workload, after: Workload, seconds: float) -> PassRecord:
    inputs = example_tensors(before)
    models = [one.model for one in (before, after) if isinstance(one.model, torch.nn.Module)]
    first, last = models
    score = None
    if after.evaluate is not None:
        with reference_predict(after) as predict:
            score = after.score(predict)
    return PassRecord(
        name=report.name,
        changed=report.changed,
        total=report.total,
        details=report.details,
        changes=tuple(
            PassChange(where=c.where, before=c.before, after=c.after, kept=c.kept, why=c.why)
            for c in report.changes
        ),
        macs=(count_macs(first, inputs), count_macs(last, inputs)),
        parameters=(count_parameters(first), count_parameters(last)),
        score=score,
        seconds=seconds,
    )
