"""Arrays as PyTorch tensors and back; numpy has no bfloat16 of its own."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

from edgekit.spec import Array

__all__ = ["to_array", "to_tensor"]


def to_tensor(array: Array) -> torch.Tensor:
    """``array`` as a tensor, without a copy where it is contiguous and writeable."""
    own = np.require(array, requirements=["C", "W"])
    if own.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(own.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(own)


def to_array(tensor: torch.Tensor) -> Array:
    """``tensor`` as an array; it shares memory with one that is on the CPU."""
    own = tensor.detach().cpu()
    if own.dtype == torch.bfloat16:
        return own.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return own.numpy()
