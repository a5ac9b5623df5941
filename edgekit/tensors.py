"""PyTorch tensors as arrays and back; numpy has no bfloat16 of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from edgekit.spec import Array

if TYPE_CHECKING:
    import torch

__all__ = ["as_array", "is_bfloat16", "to_array", "to_tensor"]


def is_bfloat16(value: Any) -> bool:
    """Whether it is a PyTorch tensor of that type, which numpy cannot read."""
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"


def as_array(value: Any) -> Array:
    """Whatever numpy makes an array of, or a PyTorch tensor of any type."""
    return to_array(value) if is_bfloat16(value) else np.asarray(value)


def to_array(tensor: torch.Tensor) -> Array:
    """``tensor`` as an array; it shares memory with one that is on the CPU."""
    import torch  # it was imported by whoever made the tensor

    own = tensor.detach().cpu()
    if not is_bfloat16(own):
        return own.numpy()
    return own.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)


def to_tensor(array: Array) -> torch.Tensor:
    """``array`` as a tensor, without a copy where it is contiguous and writeable."""
    import torch  # heavy and optional

    own = np.require(array, requirements=["C", "W"])
    if own.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(own.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(own)
