"""Find out by measuring which widths a target likes: multiples of what it computes at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from edgekit.compress.base import Clock, ModuleContext
from edgekit.workload import Workload

__all__ = ["Width", "chosen_multiple", "liked_multiple", "measure_widths"]

#: Every engine likes multiples of the last candidate; the others are judged by their odd multiples.
_CANDIDATES = {4: (68, 84, 100), 8: (72, 104, 120), 16: (80, 112)}
_LIKED = 32
_ANCHORS = (64, 96, 128)
#: A multiple is liked when its widths cost no more than so much above what their neighbours say.
_TOLERANCE = 1.06
_DEPTH = 8
#: Where the target is not asked: a vector of 16 float32 values in AVX-512.
_USUAL = 16


@dataclass(frozen=True, slots=True)
class Width:
    """A stack of layers of one width.

    Attributes:
        width: channels.
        seconds: of one inference.
        excess: seconds against those of a straight line between the multiples of 32 beside it.
    """

    width: int
    seconds: float
    excess: float


def chosen_multiple(
    wanted: int | Literal["measured"], model: nn.Module, context: ModuleContext
) -> tuple[int, list[str]]:
    """The multiple of channels or ranks to use, and how it was found, a line each.

    Args:
        wanted: a number, or ``measured`` to ask the target, where there is a clock.
        model: tells by its layers whether convolutions or linear layers are to be asked about.
        context: the clock.
    """
    if wanted != "measured":
        return wanted, []
    clock = context.clock
    if clock is None:
        return _USUAL, [f"multiples of {_USUAL} channels, not measured"]
    context.progress.update("which widths the target likes")
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    convolution = any(isinstance(module, kinds) for module in model.modules())
    found, measured = liked_multiple(clock, convolution=convolution)
    told = ", ".join(f"{one.width}: {one.excess:.2f}" for one in measured)
    return found, [f"{clock.name} likes multiples of {found} channels (cost by width: {told})"]


def measure_widths(clock: Clock, *, convolution: bool) -> list[Width]:
    """Time a stack of 3x3 convolutions on 14x14 pixels, or of linear layers on 64 rows."""
    widths = sorted({*_ANCHORS, *(w for tried in _CANDIDATES.values() for w in tried)})
    timed = clock.seconds([_stack(width, convolution=convolution) for width in widths])
    seconds = dict(zip(widths, timed, strict=True))
    expected = np.interp(widths, _ANCHORS, [seconds[anchor] for anchor in _ANCHORS])
    return [
        Width(width, seconds[width], seconds[width] / float(straight))
        for width, straight in zip(widths, expected, strict=True)
    ]


def liked_multiple(clock: Clock, *, convolution: bool) -> tuple[int, list[Width]]:
    """The smallest multiple of channels that wastes nothing on the target.

    Where an engine pads channels to the width of its vectors, time goes in steps, and a width below
    a step costs what the step costs: more than its neighbours on the multiples of 32 let expect.

    Returns:
        The multiple, and what was measured.
    """
    measured = measure_widths(clock, convolution=convolution)
    for multiple, widths in _CANDIDATES.items():
        if float(np.median([m.excess for m in measured if m.width in widths])) <= _TOLERANCE:
            return multiple, measured
    return _LIKED, measured


def _stack(width: int, *, convolution: bool) -> Workload:
    generator = torch.Generator().manual_seed(width)
    layers: list[nn.Module] = []
    for _ in range(_DEPTH):
        layer = nn.Conv2d(width, width, 3, padding=1) if convolution else nn.Linear(width, width)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / width)
        layers += [layer, nn.ReLU()]
    shape = (1, width, 14, 14) if convolution else (1, 64, width)
    example = torch.randn(shape, generator=generator)
    return Workload(
        name=f"width-{width}",
        model=nn.Sequential(*layers).eval(),
        example_inputs={"x": example},
        calibration=lambda: [{"x": example.numpy()}],
    )
