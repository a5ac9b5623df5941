"""Scores the residual blocks of a model and removes those that matter least."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgekit.compress.base import Change, ModuleContext, Trained
from edgekit.compress.drop.blocks import (
    Block,
    find_blocks,
    remove_blocks,
    states_in,
    states_out,
    watch,
)
from edgekit.compress.drop.recipe_pass import DropLayers
from edgekit.compress.gate import kept_if_faster
from edgekit.compress.modules import (
    calibration_tensors,
    copied,
    example_tensors,
    named_outputs,
    require_forward,
)
from edgekit.errors import WorkloadError
from edgekit.workload import Workload

__all__ = ["drop_layers", "scores"]

#: Batches of the calibration data that the scores are taken from.
_BATCHES = 8


def drop_layers(workload: Workload, settings: DropLayers, context: ModuleContext) -> Trained:
    """A copy of the workload's model without the blocks that ``settings`` asks for.

    Raises:
        WorkloadError: the model is no module, has no block that can be removed or fewer than
            asked for, does not run without them; or training failed.
    """
    model = copied(workload)
    blocks = find_blocks(model, example_tensors(workload))
    count = _count(workload, settings, blocks)
    scored = scores(workload, model, blocks, settings.how, count)
    dropped = _choose(blocks, scored, count)
    remove_blocks(model, dropped)
    require_forward(
        workload,
        model,
        "blocks dropped",
        fix="Let forward go over the modules that its container has",
    )
    changes = tuple(_change(one, scored, settings.how, dropped=one in dropped) for one in blocks)
    return kept_if_faster(workload, model, changes, len(blocks), settings, context)


def _count(workload: Workload, settings: DropLayers, blocks: Sequence[Block]) -> int:
    """How many blocks to remove; a container keeps at least one module."""
    where = f"workload {workload.name!r}"
    if not blocks:
        raise WorkloadError(
            "has no residual block that can be removed: none that repeats in a ModuleList or "
            "Sequential, keeps its input's shape and adds to its input",
            where=where,
            fix="Use a recipe without drop-layers",
        )
    sizes = {block.container: block.siblings for block in blocks}
    most = sum(
        min(sum(block.container == name for block in blocks), size - 1)
        for name, size in sizes.items()
    )
    if settings.count is None:
        assert settings.ratio is not None
        return min(most, max(1, int(settings.ratio * len(blocks))))
    if settings.count > most:
        raise WorkloadError(
            f"{settings.count} blocks are to be removed and at most {most} can be",
            where=where,
            fix=f"Set count of drop-layers to {most} or less",
        )
    return settings.count


def scores(
    workload: Workload, model: nn.Module, blocks: Sequence[Block], how: str, count: int
) -> dict[str, float]:
    """How much each block matters, by name; the least goes first.

    Args:
        workload: its calibration data, else its example inputs, are run.
        model: in eval mode; it is as before afterwards.
        blocks: from :func:`.blocks.find_blocks`.
        how: see :class:`DropLayers`.
        count: how many will be removed.

    Returns:
        ``similarity``: 1 - mean cosine of input and output; ``loss``: mean square of the change
        of the outputs, relative to that of the outputs; else 0 for those to go and 1.
    """
    if how == "similarity":
        return _by_similarity(workload, model, [block.name for block in blocks])
    if how == "loss":
        return _by_loss(workload, model, blocks)
    total = len(blocks)
    places = list(range(total - count, total))
    if how == "every-other":
        places = [(place + 1) * total // count - 1 for place in range(count)]
    return {block.name: float(place not in places) for place, block in enumerate(blocks)}


def _by_similarity(workload: Workload, model: nn.Module, names: Sequence[str]) -> dict[str, float]:
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)

    def told(
        name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], result: Any
    ) -> None:
        given, made = states_in(arguments, keywords), states_out(result)
        assert given is not None
        assert made is not None
        features = 1 if given.dim() == 4 else -1  # channels of an image, else the last axis
        cosines = nn.functional.cosine_similarity(given.double(), made.double(), features)
        sums[name] += float(cosines.sum())
        counts[name] += cosines.numel()

    with torch.no_grad(), watch(model, names, told):
        for batch in calibration_tensors(workload, _BATCHES):
            model(*batch.values())
    return {name: 1.0 - sums[name] / counts[name] for name in names}


def _by_loss(workload: Workload, model: nn.Module, blocks: Sequence[Block]) -> dict[str, float]:
    batches = list(calibration_tensors(workload, _BATCHES))
    wanted = [_outputs(workload, model, batch) for batch in batches]
    found = {}
    for block in blocks:
        without = copy.deepcopy(model)
        remove_blocks(without, [block])
        got = [_outputs(workload, without, batch) for batch in batches]
        pairs = list(zip(got, wanted, strict=True))
        change = sum(float((one - other).square().sum()) for one, other in pairs)
        found[block.name] = change / max(sum(float(one.square().sum()) for one in wanted), 1e-30)
    return found


def _outputs(
    workload: Workload, model: nn.Module, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """All floating-point outputs in one row."""
    with torch.no_grad():
        named = named_outputs(model(*batch.values()), workload.output_names)
    return torch.cat([one.flatten().double() for one in named.values() if one.is_floating_point()])


def _choose(blocks: Sequence[Block], scored: Mapping[str, float], count: int) -> list[Block]:
    """The ``count`` blocks of the lowest scores that leave no container empty."""
    left = {block.container: block.siblings for block in blocks}
    chosen: list[Block] = []
    for block in sorted(blocks, key=lambda one: scored[one.name]):
        if len(chosen) < count and left[block.container] > 1:
            left[block.container] -= 1
            chosen.append(block)
    return chosen


def _change(block: Block, scored: Mapping[str, float], how: str, *, dropped: bool) -> Change:
    score = f"{how} score {scored[block.name]:.3g}"
    if dropped:
        return Change(block.name, "block", "removed", why=score)
    return Change(block.name, "block", "block", kept=False, why=f"matters more, {score}")
