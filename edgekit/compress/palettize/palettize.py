"""Weights of few distinct values."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgekit.compress.base import Change
from edgekit.compress.modules import excluded
from edgekit.compress.palettize.kmeans import palette, snap
from edgekit.errors import CompressError
from edgekit.progress import Progress, Silent
from edgekit.spec import Array

__all__ = ["Sizes", "palettize"]

#: Zeros are kept, in a palette's place of their own, where so many weights are zero: pruned.
_SPARSE = 0.01


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of all weights after zlib, before and after."""

    before: int
    after: int


def palettize(
    model: nn.Module,
    bits: int,
    *,
    exclude: Sequence[str] = (),
    channels: int | None = None,
    where: str = "palettize",
    progress: Progress = Silent(),  # noqa: B008, it has no state
) -> tuple[list[Change], Sizes]:
    """Replace the weights of two and more axes by at most ``2 ** bits`` values each, in place.

    Args:
        model: any module.
        bits: 1 to 8.
        exclude: globs of modules that are left alone.
        channels: so many entries of axis 0 share a palette; None for all.
        where: for errors.
        progress: told which weight it is at.

    Returns:
        What was done to each weight, and what that gains on disk.

    Raises:
        CompressError: a glob names no module, or there is nothing to palettize.
    """
    left_out = excluded(exclude, [name for name, _ in model.named_modules()], "module", where)
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}
    if not weights:
        raise CompressError(
            "there is no weight of two or more axes", where=where, fix="Leave palettize out"
        )
    changes, before, after = [], 0, 0
    for index, (name, parameter) in enumerate(weights.items()):
        progress.update(f"palettize, weight {index + 1} of {len(weights)}")
        old = parameter.detach().float().cpu().numpy().copy()  # else it would change along
        new = old
        as_it_was = name.rpartition(".")[0] in left_out
        if not as_it_was:
            new = _shared(old, 2**bits, channels)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(new))
        sizes = _zlib(old), _zlib(new)
        before, after = before + sizes[0], after + sizes[1]
        changes.append(_change(name, old, new, sizes, as_it_was=as_it_was))
    return changes, Sizes(before, after)


def _change(
    name: str, old: Array, new: Array, sizes: tuple[int, int], *, as_it_was: bool
) -> Change:
    before, after = (f"{size / 1e3:.3g} kB compressed" for size in sizes)
    if as_it_was:
        return Change(name, before, before, kept=False, why="excluded")
    if np.array_equal(old, new):
        return Change(name, before, before, kept=False, why="has no more values")
    return Change(name, before, f"{len(np.unique(new))} values, {after}")


def _shared(old: Array, count: int, channels: int | None) -> Array:
    rows = len(old) if channels is None else channels
    new = np.empty_like(old)
    for start in range(0, len(old), rows):
        chosen = slice(start, start + rows)
        new[chosen] = _one_palette(old[chosen], count)
    return new


def _one_palette(values: Array, count: int) -> Array:
    zeros = values == 0
    if count < 2 or zeros.mean() < _SPARSE or zeros.all():
        return snap(values, palette(values, count)).astype(values.dtype)
    rest = ~zeros
    centres = palette(values[rest], count - 1)
    new = np.zeros_like(values)
    new[rest] = snap(values[rest], centres)
    return new


def _zlib(values: Array) -> int:
    return len(zlib.compress(np.ascontiguousarray(values).tobytes(), 6))
