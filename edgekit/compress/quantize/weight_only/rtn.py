"""Round to nearest: each group of weights covers its own range. Needs no data."""

from __future__ import annotations

import numpy as np

from edgekit.compress.quantize.weight_only.grid import Grid, GroupedWeight
from edgekit.spec import Array

__all__ = ["round_to_nearest"]


def round_to_nearest(weight: Array, grid: Grid) -> GroupedWeight:
    """Quantize ``weight``, float32 of shape ``(inputs, outputs)``; the last group may be short.

    Every weight moves by half a step at most.
    """
    steps = np.empty(weight.shape, np.float32)
    starts = grid.starts(len(weight))
    scale = np.empty((len(starts), weight.shape[1]), np.float32)
    zero = np.empty_like(scale)
    for index, start in enumerate(starts):
        block = slice(start, start + starts.step)
        scale[index], zero[index] = grid.fit(weight[block])
        steps[block] = grid.nearest(weight[block], scale[index], zero[index])
    return GroupedWeight.of(grid, steps, scale, zero)
