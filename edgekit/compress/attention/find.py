"""Finds the self-attention of a model and makes sure that it computes nothing else.

A module that has projections for query, key and value is a candidate, whatever its class. It is
run once; what the projections give through plain attention is compared with what the module gave.
So a position bias, rotary embeddings or a soft cap need not be known to be noticed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekit.compress.attention.module import (
    AttentionBlock,
    FullAttention,
    SelfAttention,
    refused_arguments,
)
from edgekit.compress.attention.projections import Projections, projections_of
from edgekit.errors import WorkloadError

__all__ = ["Found", "find_attention"]

#: How far plain attention may be from what the module gave, relative to the largest of it.
_TOLERANCE = 1e-4
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")


@dataclass(frozen=True, slots=True)
class Found:
    """One module that looks like attention.

    Attributes:
        name: its qualified name.
        block: how to compute it; None when it is not plain self-attention.
        why_not: then the reason.
        length: the longest sequence that it was called with; 0 when it has no block.
    """

    name: str
    block: AttentionBlock | None
    why_not: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments that a module was called with, by parameter name, and what it returned."""

    arguments: Mapping[str, Any]
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]
    result: Any


def find_attention(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[Found]:
    """Every attention of ``model``, understood or not, in the order of its modules.

    Args:
        model: in eval mode; it is as before afterwards.
        inputs: what to run it on; with padding if it will see any.
    """
    candidates: dict[str, Projections | str] = {}
    for name, module in model.named_modules():
        found = projections_of(module)
        if found is not None:
            candidates[name] = found
    calls = _record(model, list(candidates), inputs)
    return [
        _judge(name, model.get_submodule(name), projections, calls[name])
        for name, projections in candidates.items()
    ]


def _record(
    model: nn.Module, names: list[str], inputs: Mapping[str, torch.Tensor]
) -> dict[str, list[_Call]]:
    calls: dict[str, list[_Call]] = {name: [] for name in names}

    def recorder(name: str, order: tuple[str, ...]) -> Callable[..., None]:
        def record(
            _: nn.Module, positional: tuple[Any, ...], keywords: Mapping[str, Any], result: Any
        ) -> None:
            arguments = {**dict(zip(order, positional, strict=False)), **keywords}
            calls[name].append(_Call(arguments, positional, dict(keywords), result))

        return record

    handles = [
        module.register_forward_hook(recorder(name, _parameters(module)), with_kwargs=True)
        for name in names
        for module in [model.get_submodule(name)]
    ]
    try:
        with torch.no_grad():
            model(*inputs.values())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _parameters(module: nn.Module) -> tuple[str, ...]:
    """Names of the positional parameters of ``forward``."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(one.name for one in parameters if one.kind in kinds)


def _judge(
    name: str, module: nn.Module, projections: Projections | str, calls: list[_Call]
) -> Found:
    if isinstance(projections, str):
        return Found(name, None, projections)
    if not calls:
        return Found(name, None, "forward does not call it on the example inputs")
    heads = _head_count(module)
    if heads is None or projections.query.out_features % heads:
        return Found(name, None, "has no head count that divides its width")
    try:
        return _compared(name, module, projections, heads, calls)
    except WorkloadError as error:
        return Found(name, None, error.what)


def _compared(
    name: str, module: nn.Module, projections: Projections, heads: int, calls: list[_Call]
) -> Found:
    """Plain attention that gives what the module gave, bidirectional or causal."""
    if any(refused := refused_arguments(call.arguments) for call in calls):
        return Found(name, None, f"is called with {', '.join(refused)}")
    names = _parameters(module)
    if not names or any(_rank(call.arguments.get(names[0])) != 3 for call in calls):
        return Found(name, None, "is not called with states of shape (batch, n, width)")
    result = calls[0].result
    scale = getattr(module, "scaling", getattr(module, "scale", None))
    plain = (projections.query.out_features // heads) ** -0.5
    errors = []
    # A sequence of one position does not tell: there the module's own word decides.
    likely = bool(getattr(module, "is_causal", False))
    for causal in (likely, not likely):
        block = AttentionBlock(
            projections=projections,
            heads=heads,
            scale=float(scale) if isinstance(scale, float | int) else plain,
            causal=causal,
            parameters=names,
            mask=_mask_parameter(module, names),
            excludes=isinstance(module, nn.MultiheadAttention),
            batch_first=getattr(module, "batch_first", True),
            results=len(result) if isinstance(result, tuple) else 0,
        )
        errors.append(max(_error(block, call) for call in calls))
        if errors[-1] <= _TOLERANCE:
            axis = 1 if block.batch_first else 0
            return Found(
                name, block, length=max(call.arguments[names[0]].shape[axis] for call in calls)
            )
    return Found(
        name,
        None,
        f"computes something else than plain self-attention, its output differs by "
        f"{min(errors):.1e} of the largest",
    )


def _mask_parameter(module: nn.Module, names: tuple[str, ...]) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return "key_padding_mask"
    return next((name for name in names if "mask" in name and "head" not in name), None)


def _error(block: AttentionBlock, call: _Call) -> float:
    attention = SelfAttention(block, FullAttention(causal=block.causal))
    try:
        with torch.no_grad():
            got = attention(*call.positional, **call.keywords)
    except RuntimeError:  # shapes that do not fit: keys of another length, or split otherwise
        return float("inf")
    wanted, got = (one[0] if isinstance(one, tuple) else one for one in (call.result, got))
    if not isinstance(wanted, torch.Tensor) or wanted.shape != got.shape:
        return float("inf")
    return float((wanted - got).abs().max() / wanted.abs().max().clamp(min=1e-6))


def _rank(value: Any) -> int:
    return value.dim() if isinstance(value, torch.Tensor) else 0


def _head_count(module: nn.Module) -> int | None:
    config = getattr(module, "config", None)
    for holder in (module, config):
        for name in _HEADS:
            count = getattr(holder, name, None)
            if isinstance(count, int) and count > 0:
                return count
    return None
