"""Choose which units of which groups stay, so that the whole model has the size that was asked."""

from __future__ import annotations

import copy
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.compress.modules import count_macs, count_parameters
from edgekit.compress.prune.groups import Group, Groups
from edgekit.compress.prune.surgery import keep
from edgekit.spec import Array

__all__ = ["Plan", "channels_of", "make_plan", "share_left", "unit_costs"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which units of each group stay.

    Attributes:
        kept: indices of units in rising order, by group name; groups that stay whole are absent.
        reached: what is left of what was limited (MACs, say), as a share of the original.
    """

    kept: Mapping[str, list[int]]
    reached: float


def channels_of(group: Group) -> int:
    """Channels that one unit stands for where they are produced: 64 for a head, mostly 1."""
    produced = [member for member in group.members if member.role == "out"]
    return int((produced or group.members)[0].index.shape[1])


def make_plan(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    found: Groups,
    groups: Sequence[Group],
    scores: Mapping[str, Array],
    *,
    share: float,
    of: str,
    scope: str,
    multiple: int,
    least: float,
    sizes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan what stays.

    Args:
        model: where the groups were found; not changed.
        inputs: one example call.
        found: all its groups.
        groups: those that may be pruned.
        scores: of their units; the lowest go first.
        share: of the model's ``of`` that may stay, 0 to 1.
        of: ``macs``, ``parameters`` or ``channels``.
        scope: ``global`` ranks the units of all groups together; ``layer`` takes the same share of
            each group, within one multiple.
        multiple: of channels that every pruned group keeps; where a group is smaller, all stay.
        least: the least share of its units that a group keeps.
        sizes: units that groups had before earlier steps, which ``least`` and the share of each
            group refer to; by default those that they have.

    Returns:
        Of the plans that differ by one multiple in one group, the nearest to ``share``, or the
        smallest that there is.
    """
    left = share_left(model, inputs, found, of)
    order = _order(groups, scores, scope, multiple, least, sizes or {})

    @cache  # each one copies and counts the model
    def attempt(removed: int) -> Plan:
        counts = {group.name: group.size for group in groups}
        counts.update(order[:removed])
        kept = {
            group.name: _highest(scores[group.name], counts[group.name]).tolist()
            for group in groups
            if counts[group.name] < group.size
        }
        return Plan(kept, left(kept))

    fewest = bisect_left(range(len(order)), -share, key=lambda n: -attempt(n).reached)
    tried = [attempt(removed) for removed in {fewest, max(fewest - 1, 0)}]
    return min(tried, key=lambda plan: abs(plan.reached - share))


def _order(
    groups: Sequence[Group],
    scores: Mapping[str, Array],
    scope: str,
    multiple: int,
    least: float,
    sizes: Mapping[str, int],
) -> list[tuple[str, int]]:
    """What to remove first: groups, each with the units that are then left of it.

    A group is taken away by blocks, each of which leaves a whole multiple.
    """
    found: list[tuple[float, str, int]] = []
    for group in groups:
        step = multiple // math.gcd(multiple, channels_of(group))
        whole = sizes.get(group.name, group.size)
        lowest = max(math.ceil(whole * least / step), 1) * step
        rising = np.sort(scores[group.name])
        before = group.size
        for left in range((group.size - 1) // step * step, lowest - 1, -step):
            block = rising[group.size - before : group.size - left]
            rank = float(block.mean()) if scope == "global" else 1.0 - left / whole
            found.append((rank, group.name, left))
            before = left
    return [(name, left) for _, name, left in sorted(found, key=lambda block: block[0])]


def _highest(scores: Array, count: int) -> Array:
    """The units with the highest scores, in rising order; of equals the first."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def share_left(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], found: Groups, of: str
) -> Callable[[Mapping[str, list[int]]], float]:
    """A function that gives the share of the model's ``of`` that is left with some units, 0 to 1.

    The whole is counted once, here.
    """
    if of == "channels":
        return lambda kept: float(
            np.mean([len(kept.get(g.name, range(g.size))) / g.size for g in found])
        )

    def size(of_model: nn.Module) -> int:
        return count_macs(of_model, inputs) if of == "macs" else count_parameters(of_model)

    whole = size(model)

    def left(kept: Mapping[str, list[int]]) -> float:
        smaller = copy.deepcopy(model)
        keep(smaller, found, kept)
        return size(smaller) / whole

    return left


def unit_costs(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], groups: Sequence[Group]
) -> dict[str, float]:
    """MACs that go with one unit of each group: a proxy, weight by weight.

    Each weight costs its module's MACs divided by the number of its weights.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs.values())
    root = type(model).__name__
    flops = {
        name.removeprefix(f"{root}."): sum(found.values())
        for name, found in counter.get_flop_counts().items()
    }
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.ndim > 1}

    def cost(group: Group) -> float:
        total = 0.0
        for member in group.members:
            size = sizes.get(member.parameter)
            module = member.parameter.rpartition(".")[0]
            if size is not None:
                along = model.get_parameter(member.parameter).shape[member.axis]
                share = member.index.shape[1] / along
                total += flops.get(module, 0) / 2 * share
        return total

    return {group.name: cost(group) for group in groups}
