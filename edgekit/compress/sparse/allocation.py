"""How many weights each layer gets out of a sparse budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["erdos_renyi_kernel", "uniform"]


def uniform(shapes: Mapping[str, Sequence[int]], ratio: float) -> dict[str, int]:
    """The same share for every layer: how many weights stay, at least one."""
    return {name: max(round((1 - ratio) * math.prod(shape)), 1) for name, shape in shapes.items()}


def erdos_renyi_kernel(shapes: Mapping[str, Sequence[int]], ratio: float) -> dict[str, int]:
    """More for small layers: the density goes with the sum of the weight's axes over their product.

    Layers for which that would be more than all their weights are dense, and the others share what
    is left, so that the whole is what ``ratio`` leaves (Evci et al., 2020, arXiv:1911.11134, after
    Mocanu et al., 2018).

    Args:
        shapes: of the weights: ``(outputs, inputs, *kernel)``.
        ratio: the share of all weights that is zero.

    Returns:
        How many weights stay, by name, at least one each.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    budget = (1 - ratio) * sum(sizes.values())
    dense: set[str] = set()
    while True:
        spare = budget - sum(sizes[name] for name in dense)
        wish = {name: sum(shape) for name, shape in shapes.items() if name not in dense}
        scale = spare / sum(wish.values()) if wish else 0.0
        over = {name for name, share in wish.items() if scale * share > sizes[name]}
        if not over:
            break
        dense |= over
    return {
        name: size if name in dense else max(round(scale * wish[name]), 1)
        for name, size in sizes.items()
    }
