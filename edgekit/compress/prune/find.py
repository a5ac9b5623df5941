"""The groups of a module that can really be removed: found in its graph, tried on a copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from edgekit.compress.prune.attributes import Undo, numbers
from edgekit.compress.prune.graph import Analysis, analyse, called, module_of, trace
from edgekit.compress.prune.groups import Edit, Groups
from edgekit.compress.prune.labels import Index
from edgekit.compress.prune.rules import shapes_of
from edgekit.compress.prune.surgery import shrink
from edgekit.errors import CompressError

__all__ = ["find_groups"]

#: What a module's code raises when a number in it does not fit its parameters.
_MISFITS = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, ArithmeticError)
_MOST_CHOICES = 100
_LOOK_BACK = 6
#: A module's qualified name and the path to one of its numbers.
_Place = tuple[str, tuple[str | int, ...]]


def find_groups(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Groups:
    """Find what can be removed from a model.

    The graph says which channels are coupled; a trial on a copy says whether the Python code of
    the modules can follow, and which numbers in it have to. Groups that it cannot follow for are
    among ``fixed``, with the module that does not let them.

    Args:
        model: the module; it stays as it is.
        inputs: one example of each input, in the order of ``forward``'s parameters.

    Returns:
        The groups, of at least two units each, and why other modules' channels are fixed.

    Raises:
        CompressError: the model cannot be traced or copied, or nothing can be removed.
    """
    analysis = analyse(model, trace(model, inputs))
    try:
        trial = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        raise CompressError(
            f"the model cannot be copied: {error}",
            where=f"module {type(model).__name__}",
            fix="Keep computed tensors and open files out of its attributes",
        ) from error
    groups = _Trial(trial, inputs, analysis).possible()
    if not groups:
        name, why = next(iter(groups.fixed.items()), (type(model).__name__, "it has no weights"))
        raise CompressError(
            f"nothing can be pruned: {why}",
            where=f"module {name}",
            fix="Leave this model out of pruning, or rewrite that module",
        )
    return groups


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Where a trial failed.

    Attributes:
        progress: how far it came; compares with that of another trial.
        modules: qualified names of the modules that ran, the one that did not fit last.
        why: what it said.
    """

    progress: tuple[int, int]
    modules: tuple[str, ...]
    why: str


@dataclass(slots=True)
class _Trial:
    """Shrinks a copy of the model until it is known which groups its code can follow for.

    Attributes:
        model: the copy; as it was after each trial.
        inputs: example inputs.
        analysis: what the graph says.
    """

    model: nn.Module
    inputs: Mapping[str, torch.Tensor]
    analysis: Analysis
    _edits: dict[_Place, Edit | None] = field(default_factory=dict)

    def possible(self) -> Groups:
        """The groups that can be removed, with the edits that they need."""
        found = self.analysis.groups
        fixed = dict(found.fixed)
        alive = set(range(len(found)))
        for module in {use.module for use in found.sizes}:
            for place, candidates in self._candidates(module, module, config=False).items():
                self._edits[place] = candidates[0]
        while alive:
            misfit = self._mended(alive)
            if misfit is None:
                break
            victim = self._victim(alive, misfit.modules[-1])
            fixed[found[victim].name] = (
                f"the code of {misfit.modules[-1] or 'the model'} cannot follow: {misfit.why}"
            )
            alive.remove(victim)
        return self._only(alive, fixed)

    def _only(self, alive: set[int], fixed: Mapping[str, str]) -> Groups:
        found = self.analysis.groups
        order = sorted(alive)
        places = np.full(len(found) + 1, -1, dtype=np.int64)  # the last one is for -1
        places[order] = np.arange(len(order))
        edits = [one for one in self._edits.values() if one is not None]
        return Groups(
            tuple(found[place] for place in order),
            fixed,
            tuple(replace(one, group=places[one.group]) for one in found.sizes),
            tuple(replace(one, use=replace(one.use, group=places[one.use.group])) for one in edits),
        )

    def _mended(self, alive: set[int]) -> _Misfit | None:
        """Choose numbers to change until the model runs; returns what cannot be mended."""
        misfit = self._misfit(alive)
        while misfit is not None:
            better = self._improved(alive, misfit)
            if better is misfit:
                return misfit
            misfit = better
        return None

    def _improved(self, alive: set[int], misfit: _Misfit) -> _Misfit | None:
        """Choose other numbers for the modules that may not fit; the same misfit if none helps."""
        before = self._edits
        for choice in islice(self._choices(misfit.modules), _MOST_CHOICES):
            self._edits = {**before, **choice}
            after = self._misfit(alive)
            if after is None or after.progress > misfit.progress:
                return after
        self._edits = before
        return misfit

    def _choices(self, modules: Sequence[str]) -> Iterator[dict[_Place, Edit | None]]:
        """Other numbers to change, the likeliest first: the last module's own, its config's, those
        of the modules around it, those of modules that ran just before."""
        last = modules[-1]
        parts = last.split(".")
        around = [".".join(parts[:count]) for count in range(len(parts))][::-1] if last else []
        before = list(dict.fromkeys(reversed(modules[:-1])))[:_LOOK_BACK]
        for config in (False, True):
            for holder, user in [
                (last, last),
                *((one, last) for one in around),
                *((one, one) for one in before),
            ]:
                places = self._candidates(holder, user, config=config)
                options = [[*candidates, None] for candidates in places.values()]
                for chosen in product(*options) if places else ():
                    yield dict(zip(places, chosen, strict=True))

    def _candidates(self, holder: str, user: str, *, config: bool) -> dict[_Place, list[Edit]]:
        """The numbers that ``holder`` has, with sizes in ``user``'s code that they may stand for."""
        uses = [use for use in self.analysis.groups.sizes if use.module == user]
        found: dict[_Place, list[Edit]] = {}
        for path, number in numbers(self.model.get_submodule(holder), config=config):
            fitting = [Edit(holder, path, use) for use in uses if len(use.group) == number]
            if fitting:
                found[holder, path] = fitting
        return found

    def _misfit(self, alive: set[int]) -> _Misfit | None:
        """Shrink the copy and run it; what did not fit, if anything."""
        found, undo = self.analysis.groups, Undo()
        kept: list[Index | None] = []
        for place, group in enumerate(found):
            # Differently many in each, so that one group's size is not taken for another's.
            fewer = 1 + place % max(1, min(group.size // 2, 7))
            kept.append(np.arange(group.size - fewer) if place in alive else None)
        edits = tuple(edit for edit in self._edits.values() if edit is not None)
        shrink(self.model, replace(found, edits=edits), kept, undo)
        try:
            return self._run() or self._compare(kept)
        finally:
            undo.back()

    def _run(self) -> _Misfit | None:
        entered: list[str] = []
        inside: list[str] = []
        hooks: list[RemovableHandle] = []
        for name, module in self.model.named_modules():

            def enter(_module: nn.Module, _given: Any, name: str = name) -> None:
                entered.append(name)
                inside.append(name)

            def leave(_module: nn.Module, _given: Any, _result: Any) -> None:
                inside.pop()

            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            with torch.no_grad():
                self.model(*self.inputs.values())
        except _MISFITS as error:
            return _Misfit(
                (0, len(entered) * 2 - len(inside)), (*entered, inside[-1]), str(error)[:200]
            )
        finally:
            for hook in hooks:
                hook.remove()
        return None

    def _compare(self, kept: Sequence[Index | None]) -> _Misfit | None:
        """See that the shrunken model does what the graph says, at the sizes it says."""
        nodes = called(trace(self.model, self.inputs))
        modules: list[str] = []
        for place, (node, wanted) in enumerate(zip(nodes, self.analysis.operations, strict=False)):
            modules.append(module_of(node))
            expected = wanted.expected(kept)
            if str(node.target) != wanted.name or shapes_of(node) != expected:
                why = f"{node.target} gives {shapes_of(node)} instead of {expected}"
                return _Misfit((1, place), tuple(modules), why)
        if len(nodes) != len(self.analysis.operations):
            return _Misfit((1, len(nodes)), tuple(modules), "it runs other operations")
        return None

    def _victim(self, alive: set[int], module: str) -> int:
        """The group to give up: the smallest one that the module has to do with."""
        found = self.analysis.groups
        uses = {
            int(place) for use in found.sizes if use.module == module for place in set(use.group)
        }
        prefix = f"{module}." if module else ""
        owned = {
            place
            for place in alive
            if any(member.parameter.startswith(prefix) for member in found[place].members)
        }
        return min(
            (uses & alive) or owned or alive, key=lambda place: (len(found[place].members), place)
        )
