"""The grid of a group-wise quantized weight, and the weight on it.

Arrays of this package have the inputs of a layer along axis 0 and its outputs along axis 1; a
group is a run of consecutive inputs that share one scale for each output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.spec import Array

__all__ = ["Bits", "Grid", "GroupedWeight"]

Bits = Literal[4, 8]

#: Dividing by a denormal scale overflows on hardware that flushes denormals to zero.
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Grid:
    """Which integers stand for a group of weights.

    Attributes:
        bits: 4 or 8.
        rows: inputs that share a scale; 0 for all of them.
        symmetric: signed, without a zero point, in +-7 or +-127. Otherwise unsigned with one.
    """

    bits: Bits
    rows: int
    symmetric: bool

    @property
    def lowest(self) -> int:
        """The smallest integer."""
        return -self.highest if self.symmetric else 0

    @property
    def highest(self) -> int:
        """The largest integer."""
        return (1 << self.bits - 1) - 1 if self.symmetric else (1 << self.bits) - 1

    def starts(self, inputs: int) -> range:
        """Where each group begins."""
        return range(0, inputs, self.rows or max(inputs, 1))

    def fit(self, block: Array) -> tuple[Array, Array]:
        """Scale and zero point that cover every weight of one group, and zero.

        Args:
            block: float array of shape ``(rows, outputs)``.

        Returns:
            float32 scales and zero points as whole float32 numbers, both of shape ``(outputs,)``.
        """
        low = np.minimum(block.min(axis=0, initial=0.0), 0.0)
        high = np.maximum(block.max(axis=0, initial=0.0), 0.0)
        if self.symmetric:
            low, high = np.zeros_like(low), np.maximum(-low, high)
        scale = ((high - low) / self.highest).astype(np.float32)
        scale = np.where(scale >= _SMALLEST_SCALE, scale, np.float32(1.0))
        zero = np.clip(np.rint(-low / scale), 0, self.highest).astype(np.float32)
        return scale, zero

    def nearest(self, values: Array, scale: Array, zero: Array) -> Array:
        """Whole float numbers of the grid that are nearest to ``values``."""
        steps: Array = np.clip(np.rint(values / scale) + zero, self.lowest, self.highest)
        return steps


@dataclass(frozen=True, slots=True)
class GroupedWeight:
    """A weight on its grid: ``real = scale * (steps - zero_point)``.

    Attributes:
        grid: what its integers mean.
        steps: of shape ``(inputs, outputs)``; int8 when the grid is symmetric, else uint8.
        scale: float32 of shape ``(groups, outputs)``, positive.
        zero_point: as ``scale``, of the dtype of ``steps``; zeros when the grid is symmetric.
    """

    grid: Grid
    steps: Array
    scale: Array
    zero_point: Array

    @classmethod
    def of(cls, grid: Grid, steps: Array, scale: Array, zero: Array) -> GroupedWeight:
        """Whole float numbers stored as the grid's integers."""
        dtype = np.int8 if grid.symmetric else np.uint8
        return cls(grid, steps.astype(dtype), scale.astype(np.float32), zero.astype(dtype))

    @property
    def inputs(self) -> int:
        return int(self.steps.shape[0])

    @property
    def outputs(self) -> int:
        return int(self.steps.shape[1])

    def dequantized(self) -> Array:
        """What the integers stand for: float32 of shape ``(inputs, outputs)``."""
        group = np.arange(self.inputs) // (self.grid.rows or max(self.inputs, 1))
        steps = self.steps.astype(np.int32) - self.zero_point.astype(np.int32)[group]
        return steps.astype(np.float32) * self.scale[group]
