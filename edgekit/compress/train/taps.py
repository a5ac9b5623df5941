"""What goes on inside a model during one forward pass, without touching its code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from edgekit.compress.train.calls import CallsOf

__all__ = ["Tapped", "attention_probabilities", "tap"]


@dataclass(frozen=True, slots=True)
class Tapped:
    """What one forward pass made.

    Attributes:
        result: what the model returned.
        outputs: the first tensor that each watched module returned, a call each.
        attention: softmax of each attention, shape (..., heads, queries, keys), in order.
    """

    result: Any
    outputs: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    attention: list[torch.Tensor] = field(default_factory=list)


def tap(
    model: nn.Module, inputs: Sequence[torch.Tensor], names: Iterable[str], *, attention: bool
) -> Tapped:
    """Call ``model`` and record what it does inside; nothing is left on it afterwards.

    Args:
        model: any module.
        inputs: arguments of its ``forward``.
        names: modules whose outputs are recorded.
        attention: record attention, too.
    """
    outputs: dict[str, list[torch.Tensor]] = {}
    recorder = _AttentionRecorder()
    hooks: list[RemovableHandle] = []
    try:
        for name in names:
            module = model.get_submodule(name)
            hooks.append(module.register_forward_hook(_recording(outputs, name)))
        if not attention:
            return Tapped(model(*inputs), outputs)
        with recorder:
            return Tapped(model(*inputs), outputs, recorder.seen)
    finally:
        for hook in hooks:
            hook.remove()


def _recording(
    outputs: dict[str, list[torch.Tensor]], name: str
) -> Callable[[nn.Module, Any, Any], None]:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        if tensor is not None:
            outputs.setdefault(name, []).append(tensor)

    return record


def _first_tensor(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        found = (_first_tensor(item) for item in output)
        return next((tensor for tensor in found if tensor is not None), None)
    return None


class _AttentionRecorder(CallsOf):
    function = staticmethod(functional.scaled_dot_product_attention)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(attention_probabilities(*args, **kwargs))
        return functional.scaled_dot_product_attention(*args, **kwargs)


def attention_probabilities(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,  # noqa: ARG001, the signature is that of what is watched
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001
    is_causal: bool = False,  # noqa: FBT001, FBT002
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> torch.Tensor:
    """The softmax inside ``scaled_dot_product_attention``, before dropout.

    Returns:
        Shape (..., heads, queries, keys). A row that may look nowhere is uniform, not NaN.
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1)
    scores = scores * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    lowest = torch.finfo(scores.dtype).min
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, lowest)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, lowest)
    elif attn_mask is not None:
        scores = (scores + attn_mask).clamp(min=lowest)
    return torch.softmax(scores, -1)
