"""Zeros that an earlier pass made stay zeros while a model is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["hold_zeros", "zero_share"]

#: Fewer zeros than this come by chance or from an initialization, not from a sparsity pass.
_LEAST = 0.1


def zero_share(tensor: torch.Tensor) -> float:
    """The share of exact zeros, 0 to 1; 0 for an empty tensor."""
    return float((tensor == 0).double().mean()) if tensor.numel() else 0.0


@contextmanager
def hold_zeros(model: nn.Module, least: float = _LEAST) -> Iterator[None]:
    """Inside, exact zeros in the weights of ``model`` are not trained; afterwards they are zero.

    A weight is a trainable parameter of two or more axes with at least ``least`` zeros and at least
    one value that is not: one that is all zero was initialized so and waits to be trained. (A new
    layer that starts as an identity has to be trained with ``keep_zeros=False``.) A weight's
    gradient is zero where it is, which keeps momentum and weight decay away, too, in whatever
    training function the user has.
    """
    held = [
        (parameter, parameter.detach() != 0)
        for parameter in model.parameters()
        if parameter.requires_grad
        and parameter.ndim >= 2
        and least <= zero_share(parameter.detach()) < 1.0
    ]
    hooks = [parameter.register_hook(mask.to(parameter).mul) for parameter, mask in held]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for parameter, mask in held:
                parameter.masked_fill_(~mask.to(parameter.device), 0.0)
