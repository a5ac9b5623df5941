"""What can be removed from a module: groups of coupled channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from edgekit.compress.prune.labels import Index

__all__ = ["Edit", "Group", "Groups", "Member", "Role", "SizeUse"]

Role = Literal["out", "in", "scale"]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One axis of one parameter or buffer that a group's units have entries of.

    Attributes:
        parameter: qualified name in the model; of a tied one, the first.
        axis: the axis.
        index: int64, shape ``(size, k)``: the entries along ``axis`` that belong to each unit.
        role: ``out``: it makes the channels; ``in``: it takes them in; ``scale``: a vector along
            them (a bias, a norm's weight, bias or running statistics), or a table added to them.
    """

    parameter: str
    axis: int
    index: Index
    role: Role


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Units that occupy the same parameters in the same way; any of them can go.

    Attributes:
        name: qualified name of the module that makes the channels (its parameter's, where the
            parameter belongs to the model itself), with ``#2`` and so on for further groups of it.
        size: number of units. A unit is a channel, a block of channels such as an attention head,
            or one channel in each group of a grouped convolution.
        members: where the units' entries are. All entries of a unit go together.
    """

    name: str
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SizeUse:
    """A size along which units lie, which the Python code of ``module`` may hold as a number.

    Attributes:
        module: qualified name of the module whose code runs the operation.
        group: int64, shape ``(old size,)``: place of each entry's group among the groups, -1 for
            entries that stay.
        unit: int64, same shape: the entry's unit.
    """

    module: str
    group: Index
    unit: Index

    def left(self, kept: Sequence[Index | None]) -> int:
        """The size when of each group only ``kept`` units stay; None stands for all."""
        gone = 0
        for place, units in enumerate(kept):
            if units is not None:
                mine = self.unit[self.group == place]
                gone += int((~np.isin(mine, units)).sum())
        return len(self.group) - gone


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A number in a module that has to follow a size.

    Attributes:
        module: qualified name of the module.
        path: names and places that lead to the number: ``("num_heads",)``, ``("shape", 1)``,
            ``("config", "hidden_size")``.
        use: the size that it follows.
    """

    module: str
    path: tuple[str | int, ...]
    use: SizeUse


@dataclass(frozen=True, slots=True, eq=False)
class Groups(Sequence[Group]):
    """The groups of one model.

    Attributes:
        groups: what can be removed.
        fixed: why the channels of a module cannot be, by its qualified name.
        sizes: sizes in the model's Python code that depend on them.
        edits: the numbers in its modules that have to follow.
    """

    groups: tuple[Group, ...]
    fixed: Mapping[str, str]
    sizes: tuple[SizeUse, ...]
    edits: tuple[Edit, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        return self.groups[index]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)
