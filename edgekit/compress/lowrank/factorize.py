"""The pass itself: find sites, choose ranks, keep what is faster, fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgekit.compress.base import Change, ModuleContext, PassReport, Trained
from edgekit.compress.lowrank.attention import Attention, called, find_attention, probe
from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.lowrank.cp import CpSite
from edgekit.compress.lowrank.joint import AttentionSite
from edgekit.compress.lowrank.layers import Layer, barred, find
from edgekit.compress.lowrank.measure import faster_kinds, with_sites
from edgekit.compress.lowrank.ranks import choose
from edgekit.compress.lowrank.sensitivity import OutputError
from edgekit.compress.lowrank.spatial import SpatialSite
from edgekit.compress.lowrank.statistics import Moments, fisher_rows, input_moments
from edgekit.compress.lowrank.svd import SvdSite
from edgekit.compress.lowrank.tucker import TuckerSite
from edgekit.compress.lowrank.weighting import Weighting, input_root
from edgekit.compress.modules import copied, count_macs, example_tensors
from edgekit.compress.train.loop import finetune
from edgekit.compress.width import chosen_multiple
from edgekit.errors import CompressError
from edgekit.workload import Workload

if TYPE_CHECKING:
    from edgekit.compress.lowrank.recipe_pass import LowRank

__all__ = ["factorize"]

_KERNELS: dict[str, Callable[[Layer, Weighting], Site]] = {
    "tucker": TuckerSite,
    "cp": CpSite,
    "spatial": SpatialSite,
}


def factorize(workload: Workload, settings: LowRank, context: ModuleContext) -> Trained:
    """Factorize a copy of the workload's model.

    Args:
        workload: needs calibration data with ``activation-svd``, training with ``fisher-svd``.
        settings: keys of the recipe.
        context: its clock judges; without one everything chosen is kept.

    Raises:
        WorkloadError: the model cannot be changed, or the workload lacks what the method needs.
        CalibrationError: calibration data is missing or bad.
        CompressError: there is nothing to factorize, or ``exclude`` matches nothing.
    """
    model = copied(workload)
    sites, refused = _sites(workload, model, settings, context)
    multiple, told = chosen_multiple(settings.multiple, model, context)
    judge = None
    if settings.rank.output_loss is not None:
        context.progress.update(f"the outputs' error with each rank of {len(sites)} sites")
        judge = OutputError(workload, model)
    choices = choose(sites, settings.rank, multiple, judge)
    chosen = {name: one for name, (one, _) in choices.items() if one is not None}
    wanted = [site for site in sites if site.name in chosen]
    kinds, figures = {site.kind for site in wanted}, dict[str, str]()
    if settings.measured and context.clock is not None:
        kinds, figures = faster_kinds(
            workload, model, wanted, chosen, context.clock, context.progress
        )
    kept = [site for site in wanted if site.kind in kinds]
    made = with_sites(model, kept, chosen)
    if settings.finetune is not None and kept:
        finetune(workload, made, settings.finetune, context, label=settings.type)
    changes = [
        _change(site, *choices[site.name], kept=site in kept, figures=figures) for site in sites
    ]
    changes += [
        Change(name, "full rank", "full rank", kept=False, why=why) for name, why in refused.items()
    ]
    return Trained(
        model=made.eval(),
        report=PassReport(
            settings.type,
            changed=len(kept),
            total=len(changes),
            details=(*told, _macs(workload, model, made)),
            changes=tuple(changes),
        ),
    )


def _change(
    site: Site, choice: Candidate | None, why: str, *, kept: bool, figures: Mapping[str, str]
) -> Change:
    if choice is None:
        return Change(site.name, site.before, site.before, kept=False, why=why)
    if site.kind in figures:
        why = f"{why}; {figures[site.kind]}"
    return Change(site.name, site.before, str(choice), kept=kept, why=why)


def _macs(workload: Workload, before: nn.Module, after: nn.Module) -> str:
    inputs = example_tensors(workload)
    old, new = count_macs(before, inputs), count_macs(after, inputs)
    return f"{new:,} MACs instead of {old:,} with the example inputs"


def _sites(
    workload: Workload, model: nn.Module, settings: LowRank, context: ModuleContext
) -> tuple[list[Site], dict[str, str]]:
    """The sites in the order of ``named_modules``, and why others are none."""
    where = f"workload {workload.name!r}, pass {settings.type}"
    left_out = barred(model, settings.exclude, where)
    inputs = list(example_tensors(workload).values())
    layers, refused = find(model, inputs)
    layers = {
        name: layer
        for name, layer in layers.items()
        if left_out.isdisjoint(layer.names) and (layer.pointwise or settings.conv != "none")
    }
    if not layers:
        raise CompressError(
            "there is no Linear or Conv2d left to factorize",
            where=where,
            fix="Take the pass out of the recipe, or exclude less",
        )
    blocks, unfit = _blocks(model, layers, inputs) if settings.attention else ([], {})
    refused |= unfit
    context.progress.update(f"reading the statistics of {len(layers)} layers")
    moments, rows = _statistics(workload, model, layers, settings)
    taken = {block.full(path) for block, _ in blocks for path in block.projections}
    sites: list[Site] = [
        _layer_site(layer, settings, moments.get(name), rows.get(name))
        for name, layer in layers.items()
        if name not in taken
    ]
    positions = {name: layer.input_positions for name, layer in layers.items()}
    sites += [AttentionSite(block, model, moments, positions, power) for block, power in blocks]
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    return sorted(sites, key=lambda site: order[site.name]), {
        name: why for name, why in refused.items() if name not in left_out
    }


def _blocks(
    model: nn.Module, layers: Mapping[str, Layer], inputs: Sequence[torch.Tensor]
) -> tuple[list[tuple[Attention, float]], dict[str, str]]:
    """Attention blocks whose heads can be smaller, and why others cannot."""
    found = [
        block
        for block in find_attention(model)
        if all(block.full(path) in layers for path in block.projections)
    ]
    calls = called(model, found, inputs)
    fit, unfit = [], {}
    for block in found:
        power, why = None, "it is never called"
        if block.name in calls:
            power, why = probe(model.get_submodule(block.name), block, calls[block.name])
        if power is None:
            unfit[block.name] = why
        else:
            fit.append((block, power))
    return fit, unfit


def _statistics(
    workload: Workload, model: nn.Module, layers: Mapping[str, Layer], settings: LowRank
) -> tuple[dict[str, Moments], dict[str, torch.Tensor]]:
    modules = {name: layer.module for name, layer in layers.items()}
    if settings.method == "activation-svd":
        return input_moments(model, modules, workload.feeds(), list(workload.example_inputs)), {}
    if settings.method == "fisher-svd":
        return {}, fisher_rows(workload, model, modules)
    return {}, {}


def _layer_site(
    layer: Layer, settings: LowRank, moments: Moments | None, rows: torch.Tensor | None
) -> Site:
    root = None if moments is None else input_root(moments.moment)
    weighting = Weighting(rows=rows, root=root)
    if layer.pointwise:
        return SvdSite(layer, weighting)
    return _KERNELS[settings.conv](layer, weighting)
