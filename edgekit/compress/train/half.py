"""Training in bfloat16, where that is fast and safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional

from edgekit.compress.train.calls import CallsOf

__all__ = ["reduced_precision"]


@contextmanager
def reduced_precision(device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions in bfloat16, by ``torch.autocast``; attention in float32.

    On CPUs the gradient of bfloat16 attention over some 20 tokens takes eight times as long as
    that of float32 (torch 2.13), more than all products of the layer together. On those without
    AVX-512 oneDNN has no bfloat16 LSTM at all, so there it runs in float32, too.
    """
    lacking = device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001, nothing public tells
    recurrent = _Float32Lstm() if lacking else nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16), _Float32Attention(), recurrent:
        yield


class _Float32Attention(CallsOf):
    function = staticmethod(functional.scaled_dot_product_attention)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        query = args[0] if args else kwargs["query"]
        made = _in_float32(functional.scaled_dot_product_attention, args, kwargs, query.device)
        return made.to(query.dtype)


class _Float32Lstm(CallsOf):
    function = staticmethod(torch.lstm)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return _in_float32(torch.lstm, args, kwargs, args[0].device)


def _in_float32(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], device: torch.device
) -> Any:
    with torch.autocast(device.type, enabled=False):
        return func(*_wider(args), **{name: _wider(value) for name, value in kwargs.items()})


def _wider(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_wider(one) for one in value)
    half = isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
    return value.float() if half else value
