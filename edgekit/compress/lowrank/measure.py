"""Keep what is measurably faster."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from edgekit.compress.base import Clock
from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.progress import Progress
from edgekit.workload import Workload

__all__ = ["faster_kinds", "with_sites"]


def with_sites(
    model: nn.Module, sites: Sequence[Site], chosen: Mapping[str, Candidate]
) -> nn.Module:
    """A copy of ``model`` with the chosen candidate of each of those sites."""
    made = copy.deepcopy(model)
    for site in sites:
        site.replace(made, chosen[site.name])
    return made


def faster_kinds(
    workload: Workload,
    model: nn.Module,
    sites: Sequence[Site],
    chosen: Mapping[str, Candidate],
    clock: Clock,
    progress: Progress,
) -> tuple[set[str], dict[str, str]]:
    """The kinds of sites whose factorization is measurably faster.

    Each kind is timed against the model with those that were kept before it, the one that saves
    the most MACs first.

    Args:
        workload: what the clock times, with other models in it.
        model: the model that the sites were found in.
        sites: with a chosen candidate each.
        chosen: candidates by name of the site.
        clock: the judge.
        progress: told what is timed.

    Returns:
        The kinds to keep, and of every kind the figures that decided.
    """
    saved: dict[str, int] = {}
    for site in sites:
        saved[site.kind] = saved.get(site.kind, 0) + site.macs - chosen[site.name].macs
    kept: set[str] = set()
    figures: dict[str, str] = {}
    baseline = replace(workload, model=with_sites(model, [], chosen))
    for kind in sorted(saved, key=lambda one: (-saved[one], one)):
        progress.update(f"timing {kind} on {clock.name}")
        wanted = [site for site in sites if site.kind in kept | {kind}]
        candidate = replace(workload, model=with_sites(model, wanted, chosen))
        measured = clock.compare(baseline, candidate)
        figures[kind] = measured.told(clock.name)
        if measured.faster:
            kept.add(kind)
            baseline = candidate
    return kept, figures
