"""Replaces the attention of a model, trains what came of it, and undoes it where it is no gain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgekit.compress.attention.find import Found, find_attention
from edgekit.compress.attention.linformer import LinformerAttention
from edgekit.compress.attention.module import AttentionBlock, SelfAttention
from edgekit.compress.attention.recipe_pass import EfficientAttention
from edgekit.compress.attention.window import WindowAttention
from edgekit.compress.base import Change, ModuleContext, Trained
from edgekit.compress.gate import kept_if_faster
from edgekit.compress.modules import (
    calibration_tensors,
    copied,
    example_tensors,
    require_forward,
)
from edgekit.errors import WorkloadError
from edgekit.workload import Workload

__all__ = ["rewrite_attention"]

_NAMED_IN_ERROR = 3


def rewrite_attention(
    workload: Workload, settings: EfficientAttention, context: ModuleContext
) -> Trained:
    """A copy of the workload's model whose self-attention is that of ``settings``.

    Raises:
        WorkloadError: the model is no module, has no plain self-attention, or its longest
            sequence is not known or too short for the rank; or training failed.
    """
    model = copied(workload)
    _without_nested_tensors(model)
    found = find_attention(model, _inputs(workload))
    changes = _replace_all(workload, model, found, settings, context.seed)
    done = [change for change in changes if change.kept]
    if not done:
        raise _nothing_found(workload, model, changes)
    require_forward(
        workload,
        model,
        "efficient attention",
        fix="Exclude the module whose attention weights or other results are used",
    )
    return kept_if_faster(workload, model, changes, len(found), settings, context)


def _without_nested_tensors(model: nn.Module) -> None:
    """nn.TransformerEncoder packs padded batches in a form that its own layers alone can read."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def _inputs(workload: Workload) -> Mapping[str, torch.Tensor]:
    """A calibration batch, which may have padding, or else the example inputs."""
    for batch in calibration_tensors(workload, 1):
        return batch
    return example_tensors(workload)


def _replace_all(
    workload: Workload,
    model: nn.Module,
    found: list[Found],
    settings: EfficientAttention,
    seed: int,
) -> list[Change]:
    changes = []
    for index, one in enumerate(found):
        why_not = _why_not(one, settings)
        if why_not or one.block is None:
            changes.append(Change(one.name, "attention", "attention", kept=False, why=why_not))
            continue
        core = _core(workload, one, one.block, settings, seed + index)
        _swap(model, model.get_submodule(one.name), SelfAttention(one.block, core).eval())
        before = f"full attention, {one.block.heads} heads"
        changes.append(Change(one.name, before, _described(core)))
    return changes


def _why_not(one: Found, settings: EfficientAttention) -> str:
    if not settings.wants(one.name):
        return "left out by only or exclude"
    if one.block is not None and one.block.causal and settings.kind == "linformer":
        return "is causal, and means over the sequence would show what comes later"
    return one.why_not


def _core(
    workload: Workload,
    one: Found,
    block: AttentionBlock,
    settings: EfficientAttention,
    seed: int,
) -> nn.Module:
    if settings.kind == "window":
        return WindowAttention(
            settings.window,
            global_tokens=settings.globals,
            random_blocks=settings.random,
            causal=block.causal,
            seed=seed,
        )
    where = f"workload {workload.name!r}, module {one.name}"
    dynamic = any(axis != 0 for axes in workload.dynamic.values() for axis in axes)
    if settings.max_length is None and dynamic:
        raise WorkloadError(
            "linformer attention needs to know the longest sequence of an input with dynamic axes",
            where=where,
            fix="Set max_length of the efficient-attention pass",
        )
    longest = settings.max_length or one.length
    if longest < max(one.length, settings.rank):
        raise WorkloadError(
            f"max_length {longest} is less than rank {settings.rank} or than the sequence of "
            f"{one.length} in its data",
            where=where,
            fix="Raise max_length or lower rank of the efficient-attention pass",
        )
    return LinformerAttention(settings.rank, longest)


def _swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is used."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def _described(core: nn.Module) -> str:
    if isinstance(core, WindowAttention):
        parts = [f"window {core.window}", f"{core.global_tokens} global tokens"]
        if core.random_blocks:
            parts.append(f"{core.random_blocks} random blocks")
        return ", ".join(parts)
    assert isinstance(core, LinformerAttention)
    return f"linformer of rank {core.rank} for up to {core.max_length} positions"


def _nothing_found(workload: Workload, model: nn.Module, changes: list[Change]) -> WorkloadError:
    looked = "; ".join(f"{one.where}: {one.why}" for one in changes[:_NAMED_IN_ERROR])
    if len(changes) > _NAMED_IN_ERROR:
        looked += f"; and {len(changes) - _NAMED_IN_ERROR} more"
    if not changes:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        looked = f"looked for projections of query, key and value in {', '.join(kinds)}"
    return WorkloadError(
        f"has no self-attention that can be replaced: {looked}",
        where=f"workload {workload.name!r}",
        fix="Use a recipe without efficient-attention, or widen its only and exclude",
    )
