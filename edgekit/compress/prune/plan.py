"""Choose which units of which groups stay, so that the whole model has the size that was asked."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.compress.modules import count_macs, count_parameters
from edgekit.compress.prune.groups import Group, Groups
from edgekit.compress.prune.surgery import keep
from edgekit.spec import Array

__all__ = ["Plan", "channels_of", "make_plan", "share_left", "unit_costs"]

#: Bisections of the threshold: enough to settle one unit in four thousand.
_BISECTIONS = 12


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
            each group.
        multiple: of channels that every pruned group keeps; where a group is smaller, all stay.
        least: the least share of its units that a group keeps.
    """
    choose = _by_rank if scope == "global" else _by_share
    left = share_left(model, inputs, found, of)

    def attempt(level: float) -> Plan:
        counts = choose(groups, scores, level, least)
        kept = {
            group.name: _highest(scores[group.name], count).tolist()
            for group, wanted in zip(groups, counts, strict=True)
            if (count := _rounded(group, wanted, multiple)) < group.size
        }
        return Plan(kept, left(kept))

    return _bisect(attempt, share)


def _bisect(attempt: Callable[[float], Plan], share: float) -> Plan:
    """The plan at the highest level whose size is within ``share``, or the smallest one there is.

    Steps of whole multiples cannot meet the share exactly; of the plans tried the nearest wins.
    """
    low, high = 0.0, 1.0
    tried = [attempt(0.0)]
    for _ in range(_BISECTIONS):
        level = (low + high) / 2
        plan = attempt(level)
        tried.append(plan)
        low, high = (level, high) if plan.reached <= share else (low, level)
    return min(tried, key=lambda plan: abs(plan.reached - share))


def _by_share(
    groups: Sequence[Group], scores: Mapping[str, Array], level: float, least: float
) -> list[float]:
    del scores
    return [group.size * max(level, least) for group in groups]


def _by_rank(
    groups: Sequence[Group], scores: Mapping[str, Array], level: float, least: float
) -> list[float]:
    """How many units of each group are among the best ``level`` of all units."""
    everything = np.concatenate([scores[group.name] for group in groups])
    cut = np.quantile(everything, 1.0 - level)
    return [max(float((scores[g.name] >= cut).sum()), g.size * least) for g in groups]


def _rounded(group: Group, wanted: float, multiple: int) -> int:
    """Units whose channels are the nearest multiple, at least one; all where none is smaller."""
    step = multiple // math.gcd(multiple, channels_of(group))
    if group.size <= step:
        return group.size
    return min(max(round(wanted / step), 1) * step, group.size)


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
