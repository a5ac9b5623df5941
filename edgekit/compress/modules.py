"""What passes on modules share: copying, calling, checking, counting."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import CompressError, WorkloadError, nearest
from edgekit.nested import leaves
from edgekit.workload import Workload

__all__ = [
    "calibration_tensors",
    "check_module",
    "copied",
    "count_macs",
    "count_parameters",
    "example_tensors",
    "excluded",
    "flat_tensors",
    "named_outputs",
    "require_finite",
    "require_forward",
    "require_training",
]


def copied(workload: Workload) -> nn.Module:
    """A copy of the workload's module in eval mode.

    Raises:
        WorkloadError: the model is an ONNX file, or cannot be copied.
    """
    where = f"workload {workload.name!r}"
    if isinstance(workload.model, Path):
        raise WorkloadError(
            "an ONNX file is not a module that can be changed or trained",
            where=where,
            fix="Give the torch.nn.Module as its model, or use a recipe that only quantizes",
        )
    try:
        return copy.deepcopy(workload.model).eval()
    except (RuntimeError, TypeError) as error:
        raise WorkloadError(
            f"the model cannot be copied: {error}",
            where=where,
            fix="Keep computed tensors and open files out of its attributes",
        ) from error


def require_training(workload: Workload, what: str) -> None:
    """See that the workload can train.

    Raises:
        WorkloadError: it has neither ``training`` nor ``finetune``.
    """
    if workload.training is None and workload.finetune is None:
        raise WorkloadError(
            f"has neither training nor finetune, which {what} needs",
            where=f"workload {workload.name!r}",
            fix="Set training=Training(batches, loss), or finetune=train, where "
            "train(model, epochs) trains the module in place",
        )


def example_tensors(workload: Workload) -> dict[str, torch.Tensor]:
    """The example inputs as tensors, in the order of ``forward``'s parameters."""
    return {name: torch.as_tensor(value) for name, value in workload.example_inputs.items()}


def excluded(
    globs: Collection[str], names: Collection[str], what: str, where: str
) -> dict[str, str]:
    """The names that globs of ``exclude`` match, each with its glob.

    Args:
        globs: patterns as of :mod:`fnmatch`, case-sensitive.
        names: what there is to exclude.
        what: what it is, in the singular, for the error.
        where: for the error.

    Raises:
        CompressError: a glob matches nothing; names the nearest.
    """
    found: dict[str, str] = {}
    for glob in globs:
        hits = [name for name in names if fnmatchcase(name, glob)]
        if not hits:
            near = nearest(glob, names)
            raise CompressError(
                f"exclude {glob!r} matches no {what}"
                + (f", did you mean {near!r}?" if near else ""),
                where=where,
                fix=f"Choose from {', '.join(list(names)[:20])}; * stands for anything",
            )
        found |= dict.fromkeys(hits, glob)
    return found


def calibration_tensors(workload: Workload, most: int) -> Iterator[dict[str, torch.Tensor]]:
    """The first ``most`` calibration batches, as :func:`example_tensors`; those without any."""
    if workload.calibration is None:
        yield example_tensors(workload)
        return
    for feeds in islice(workload.feeds(), most):
        yield {name: torch.as_tensor(feeds[name]) for name in workload.example_inputs}


def named_outputs(result: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The tensors of a forward result by output name.

    Raises:
        WorkloadError: another number of tensors than names.
    """
    tensors = list(flat_tensors(result).values())
    if len(tensors) != len(names):
        raise WorkloadError(
            f"returned {len(tensors)} tensors, output_names has {len(names)}",
            where="model forward",
            fix="Set output_names to one name for each tensor that forward returns",
        )
    return dict(zip(names, tensors, strict=True))


def flat_tensors(result: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in what ``forward`` returned, by where it is: ``logits``, ``hidden_states.2``.

    See :func:`edgekit.nested.leaves`; a lone tensor is called ``output``.
    """
    found = leaves(result, name)
    return {key or "output": one for key, one in found.items() if isinstance(one, torch.Tensor)}


def require_finite(model: nn.Module, where: str) -> None:
    """See that no parameter or buffer is NaN or infinite.

    Raises:
        WorkloadError: one is; names it.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WorkloadError(
                f"training diverged, {name!r} is NaN or infinite",
                where=where,
                fix="Lower the learning rate",
            )


def require_forward(workload: Workload, model: nn.Module, what: str, *, fix: str) -> None:
    """See that a changed model still runs on the example inputs.

    Args:
        workload: names the inputs.
        model: a changed copy of its model.
        what: the change, in words that follow "with".
        fix: how to mend it.

    Raises:
        WorkloadError: forward raised.
    """
    try:
        with torch.no_grad():
            model(*example_tensors(workload).values())
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WorkloadError(
            f"forward raised {type(error).__name__} with {what}: {error}",
            where=f"workload {workload.name!r}",
            fix=fix,
        ) from error


def check_module(workload: Workload, model: nn.Module, done_by: str) -> None:
    """See that a pass left a plain module that computes finite outputs of the same shapes.

    Raises:
        WorkloadError: a hook or a parametrization is left, forward fails, or an output has another
            shape than the workload's own model gives, or a parameter is NaN or infinite.
    """
    where = f"workload {workload.name!r}, after {done_by}"
    assert isinstance(workload.model, nn.Module)
    require_finite(model, where)
    for name, module in model.named_modules():
        left = "parametrization" if hasattr(module, "parametrizations") else ""
        # _forward_hooks is where torch.nn.Module documents them to be
        hooks = any((module._forward_hooks, module._forward_pre_hooks))  # noqa: SLF001
        if left or hooks:
            raise WorkloadError(
                f"a {left or 'hook'} is left on {name or 'the model'!r}",
                where=where,
                fix="Remove it before the model is given to edgekit",
            )
    inputs = tuple(example_tensors(workload).values())
    with torch.no_grad():
        before = flat_tensors(workload.model(*inputs)).values()
        after = flat_tensors(model(*inputs)).values()
    shapes = [list(one.shape) for one in before], [list(one.shape) for one in after]
    if shapes[0] != shapes[1]:
        raise WorkloadError(
            f"outputs have shapes {shapes[1]} instead of {shapes[0]}",
            where=where,
            fix="Report it, with the model",
        )


def count_macs(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    """Multiply-accumulates of one forward pass: of convolutions, products and attention.

    A proxy: it says what is computed, not how long that takes.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs.values())
    return int(counter.get_total_flops()) // 2


def count_parameters(model: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
