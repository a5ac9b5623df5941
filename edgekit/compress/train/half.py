"""Training in bfloat16, where that is fast and safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from edgekit.compress.train.sdpa import AttentionCalls

__all__ = ["reduced_precision"]


@contextmanager
def reduced_precision(device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions in bfloat16, by ``torch.autocast``; attention in float32.

    On CPUs the gradient of bfloat16 attention over some 20 tokens takes eight times as long as
    that of float32 (torch 2.13), more than all products of the layer together.
    """
    with torch.autocast(device.type, dtype=torch.bfloat16), _Float32Attention():
        yield


class _Float32Attention(AttentionCalls):
    def attend(self, *args: Any, **kwargs: Any) -> Any:
        query = args[0] if args else kwargs["query"]
        with torch.autocast(query.device.type, enabled=False):
            made = functional.scaled_dot_product_attention(
                *map(_wider, args), **{name: _wider(value) for name, value in kwargs.items()}
            )
        return made.to(query.dtype)


def _wider(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
    return value.float() if half else value
