"""Taking units out of a module: what is left is the same module, only smaller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from edgekit.compress.prune.attributes import Undo, apply_edits, mend_torch_modules
from edgekit.compress.prune.groups import Group, Groups
from edgekit.compress.prune.labels import Index
from edgekit.errors import CompressError

__all__ = ["keep", "shrink"]


def keep(model: nn.Module, groups: Groups, kept: Mapping[str, Sequence[int]]) -> None:
    """Keep only some units of groups, in place.

    Parameters and buffers shrink (tied ones stay tied), and so do the numbers in the modules that
    say how large they are. Either all of it is done or nothing. Afterwards ``groups`` no longer
    fits the model.

    Args:
        model: the module that ``groups`` was found in.
        groups: what :func:`.find_groups` gave.
        kept: units that stay, by the group's name; a group that is not named stays whole.

    Raises:
        CompressError: a group or a unit does not exist, a group would be left empty, or the model
            is no longer the one that ``groups`` was found in.
    """
    shrink(model, groups, [_checked(group, kept) for group in _known(groups, kept)], Undo())


def shrink(model: nn.Module, groups: Groups, kept: Sequence[Index | None], undo: Undo) -> None:
    """Do what :func:`keep` says, with the units by the group's place; None for all of them."""
    try:
        _shrink_tensors(model, groups, kept, undo)
        apply_edits(model, groups.edits, kept, undo)
        mend_torch_modules(model, undo)
    except BaseException:
        undo.back()
        raise


def _known(groups: Groups, kept: Mapping[str, Sequence[int]]) -> Groups:
    missing = sorted(kept.keys() - {group.name for group in groups})
    if missing:
        raise CompressError(
            f"there is no group {missing[0]!r}",
            where="keep",
            fix=groups.fixed.get(missing[0]) or "Use the names that find_groups gave",
        )
    return groups


def _checked(group: Group, kept: Mapping[str, Sequence[int]]) -> Index | None:
    if group.name not in kept:
        return None
    units = np.unique(np.asarray(kept[group.name], dtype=np.int64))
    if not len(units) or len(units) != len(kept[group.name]):
        raise CompressError(
            "the units to keep are none, or some are named twice",
            where=f"group {group.name}",
            fix="Keep at least one unit, each named once",
        )
    if units[0] < 0 or units[-1] >= group.size:
        raise CompressError(
            f"there is no unit {units[0] if units[0] < 0 else units[-1]} among {group.size}",
            where=f"group {group.name}",
            fix="Number the units from 0",
        )
    return units


def _shrink_tensors(
    model: nn.Module, groups: Groups, kept: Sequence[Index | None], undo: Undo
) -> None:
    gone: dict[str, dict[int, list[Index]]] = defaultdict(lambda: defaultdict(list))
    for group, units in zip(groups, kept, strict=True):
        if units is not None and len(units) < group.size:
            removed = np.setdiff1d(np.arange(group.size), units)
            for member in group.members:
                gone[member.parameter][member.axis].append(member.index[removed].ravel())
    places = _aliases(model)
    for name, axes in gone.items():
        aliases = places.get(name, [])
        old = _tensor(model, name) if aliases else None
        if old is None or any(
            max(map(np.max, gone)) >= old.shape[axis] for axis, gone in axes.items()
        ):
            raise CompressError(
                "the model is not the one that the groups were found in",
                where=f"parameter {name}",
                fix="Call find_groups again after each change of the model",
            )
        new = _without(old, axes)
        for alias in aliases:
            path, _, leaf = alias.rpartition(".")
            undo.set(model.get_submodule(path), leaf, new)


def _aliases(model: nn.Module) -> dict[str, list[str]]:
    """All names of each parameter and buffer, by the first of them."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        names[first.setdefault(id(tensor), name)].append(name)
    return names


def _tensor(model: nn.Module, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf)
    return tensor


def _without(tensor: torch.Tensor, axes: Mapping[int, Sequence[Index]]) -> torch.Tensor:
    """The tensor without entries along axes, as the same kind of tensor."""
    data = tensor.detach()
    for axis, gone in axes.items():
        left = np.setdiff1d(np.arange(data.shape[axis]), np.concatenate(gone))
        data = data.index_select(axis, torch.from_numpy(left).to(data.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data.clone(), requires_grad=tensor.requires_grad)
    return data.clone()
