"""The projections of an attention module, by the names that they go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Projections", "projections_of"]

_SEPARATE = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("query_proj", "key_proj", "value_proj"),
    ("to_q", "to_k", "to_v"),
    ("wq", "wk", "wv"),
    ("q", "k", "v"),
)
_PACKED = ("qkv", "qkv_proj", "Wqkv", "c_attn")
_OUT = ("out_proj", "o_proj", "out_lin", "c_proj", "to_out", "proj", "dense", "out", "wo", "o")


@dataclass(frozen=True, slots=True)
class Projections:
    """The linear layers of self-attention; packed ones are taken apart.

    Attributes:
        query: width of the model to that of all heads together.
        key: as ``query``.
        value: as ``query``.
        out: back to the width of the model; None where another module does that.
    """

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear | None


def projections_of(module: nn.Module) -> Projections | str | None:
    """The projections of a module that looks like attention.

    Returns:
        None when it does not; a reason when it does, but they are not those of self-attention.
    """
    if isinstance(module, nn.MultiheadAttention):
        return _of_multihead(module)
    children = dict(module.named_children())
    out = next((name for name in _OUT if name in children), None)
    for names in (*_SEPARATE, *((name,) for name in _PACKED)):
        if all(name in children for name in names):
            used = (*names, out) if out else names
            others = [
                name for name, _ in module.named_parameters() if name.split(".")[0] not in used
            ]
            if others:
                return f"has parameters beside its projections: {others[0]}"
            inner = [children[name] for name in names]
            return _joined(inner, None if out is None else children[out])
    return None


def _joined(parts: Sequence[nn.Module], out: nn.Module | None) -> Projections | str:
    linears = [linear for part in parts if (linear := _linear(part)) is not None]
    if len(parts) == len(linears) == 1:
        linears = _thirds(linears[0].weight, linears[0].bias)
    last = None if out is None else _linear(out)
    if len(linears) != 3 or (out is not None and last is None):
        return "its projections are no linear layers"
    query, key, value = linears
    if not query.weight.shape == key.weight.shape == value.weight.shape:
        return "its query, key and value have different widths"
    return Projections(query, key, value, last)


def _of_multihead(module: nn.MultiheadAttention) -> Projections | str:
    if not module.embed_dim == module.kdim == module.vdim:
        return "its query, key and value have different widths"
    if module.bias_k is not None or module.add_zero_attn:
        return "it adds a position of its own to keys and values"
    return _joined(_thirds(module.in_proj_weight, module.in_proj_bias), module.out_proj)


def _thirds(weight: torch.Tensor, bias: torch.Tensor | None) -> list[nn.Linear]:
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return [_made(w, b) for w, b in zip(weight.chunk(3), biases, strict=True)]


def _linear(module: nn.Module) -> nn.Linear | None:
    """``module`` as a Linear; that of transformers' GPT-2 is one with its weight transposed."""
    if isinstance(module, nn.Linear):
        return module
    if type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers."):
        return _made(module.weight.t(), module.bias)  # type: ignore[operator,arg-type]
    return None


def _made(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
