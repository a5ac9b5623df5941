"""Arrays in batches: in order for calibration, shuffled for training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from edgekit.spec import Array, Feeds

__all__ = ["in_order", "shuffled"]


def in_order(arrays: Mapping[str, Array], size: int) -> Iterator[Feeds]:
    """Batches of ``size`` rows of all arrays."""
    for start in range(0, len(next(iter(arrays.values()))), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def shuffled(
    arrays: Mapping[str, Array], size: int, epoch: int
) -> Iterator[dict[str, torch.Tensor]]:
    """The same as tensors, in an order that only the epoch decides."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(len(next(iter(tensors.values()))), generator=generator)
    for chosen in torch.split(order, size):
        yield {name: tensor[chosen] for name, tensor in tensors.items()}
