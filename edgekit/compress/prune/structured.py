"""Structured pruning: plan, leave what does not pay, remove, fine-tune, in steps."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from edgekit.compress.base import Change, ModuleContext, PassReport, Trained
from edgekit.compress.modules import copied, example_tensors, excluded
from edgekit.compress.prune.find import find_groups
from edgekit.compress.prune.groups import Group, Groups
from edgekit.compress.prune.importance import score_units
from edgekit.compress.prune.plan import Plan, channels_of, make_plan, share_left, unit_costs
from edgekit.compress.prune.surgery import keep
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.recalibrate import batch_norms, recalibrate
from edgekit.compress.width import chosen_multiple
from edgekit.errors import CompressError
from edgekit.workload import Workload

if TYPE_CHECKING:
    from edgekit.compress.prune.recipe_pass import StructuredPruning

__all__ = ["prune"]

#: BatchNorm's statistics are estimated anew on so many samples: after pruning they are those of
#: other inputs. (ResNet-8 at half its MACs, no training: accuracy 0.78 instead of 0.10.)
_RECALIBRATED = 1024

#: Criteria whose scores are losses, so that they can be weighed against what a unit costs.
_LOSSES = frozenset({"taylor", "obd"})


def prune(workload: Workload, settings: StructuredPruning, context: ModuleContext) -> Trained:
    """Prune a copy of the workload's model.

    Raises:
        CompressError: the model cannot be traced, or has nothing that can be removed.
        WorkloadError: the workload lacks what the importance or the fine-tuning needs.
    """
    model = copied(workload)
    multiple, details = chosen_multiple(settings.multiple, model, context)
    run = _Run(workload, settings, context, multiple)
    found = find_groups(model, example_tensors(workload))
    whole = {group.name: group for group in run.allowed(found)}
    plan = run.plan(model, found, whole, whole, settings.keep)
    agreed, undone = run.leave_what_does_not_pay(model, found, plan)
    pruned, reached = run.in_steps(model, found, whole, agreed)
    changes = [*_changes(whole, pruned), *undone]
    details.append(f"{reached:.0%} of the {settings.of} are left, {settings.keep:.0%} wanted")
    return Trained(
        model.eval(),
        PassReport(
            settings.type,
            changed=sum(change.kept for change in changes),
            total=len(whole),
            details=tuple(details),
            changes=tuple(changes),
        ),
    )


class _Run:
    """One application of the pass."""

    def __init__(
        self,
        workload: Workload,
        settings: StructuredPruning,
        context: ModuleContext,
        multiple: int,
    ) -> None:
        self._workload = workload
        self._settings = settings
        self._context = context
        self._multiple = multiple
        self._inputs = example_tensors(workload)

    def allowed(self, found: Groups) -> list[Group]:
        """What may be pruned."""
        where = f"workload {self._workload.name!r}, pass {self._settings.type}"
        names = [group.name for group in found]
        left_out = excluded(self._settings.exclude, names, "group of channels", where)
        allowed = [group for group in found if group.name not in left_out]
        if not allowed:
            raise CompressError(
                "has no channels that can be removed",
                where=where,
                fix="Leave the pass out, or exclude less",
            )
        return allowed

    def plan(
        self,
        model: nn.Module,
        found: Groups,
        names: Collection[str],
        whole: Mapping[str, Group],
        share: float,
    ) -> Plan:
        """What stays of the groups of these names when ``share`` of the model shall.

        ``whole`` are all groups as they were before the first step.
        """
        settings = self._settings
        groups = [group for group in found if group.name in names]
        seed = self._context.seed
        scores = score_units(self._workload, model, groups, settings.importance, seed)
        if settings.importance in _LOSSES and settings.scope == "global" and settings.of == "macs":
            costs = unit_costs(model, self._inputs, groups)
            scores = {name: values / max(costs[name], 1.0) for name, values in scores.items()}
        return make_plan(
            model,
            self._inputs,
            found,
            groups,
            scores,
            share=share,
            of=settings.of,
            scope=settings.scope,
            multiple=self._multiple,
            least=settings.least,
            sizes={name: group.size for name, group in whole.items()},
        )

    def leave_what_does_not_pay(
        self, model: nn.Module, groups: Groups, plan: Plan
    ) -> tuple[Plan, list[Change]]:
        """The plan for the groups that gain from it, and those that stay whole.

        Groups of the same shape are judged together, with all others pruned. The others do not make
        up for those that stay: what was planned for them is what they are thought to bear.
        """
        names = list(plan.kept)
        clock = self._context.clock
        if clock is None or not self._settings.measured:
            return plan, []
        everything = self._pruned(model, groups, plan, names)
        undone = []
        for alike in _alike(groups, plan):
            told = ", ".join(group.name for group in alike)
            self._context.progress.update(f"whether pruning {told} pays")
            others = [name for name in names if name not in {group.name for group in alike}]
            found = clock.compare(self._pruned(model, groups, plan, others), everything)
            if found.faster:
                continue
            names = others
            everything = self._pruned(model, groups, plan, names)
            undone += [
                Change(
                    group.name,
                    _channels(group, group.size),
                    _channels(group, len(plan.kept[group.name])),
                    kept=False,
                    why=f"not measurably faster, {found.told(clock.name)}",
                )
                for group in alike
            ]
        kept = {name: plan.kept[name] for name in names}
        left = share_left(model, self._inputs, groups, self._settings.of)(kept)
        return Plan(kept, left), undone

    def _pruned(
        self, model: nn.Module, groups: Groups, plan: Plan, names: Sequence[str]
    ) -> Workload:
        smaller = copy.deepcopy(model)
        keep(smaller, groups, {name: plan.kept[name] for name in names})
        return replace(self._workload, model=smaller)

    def in_steps(
        self,
        model: nn.Module,
        found: Groups,
        whole: Mapping[str, Group],
        agreed: Plan,
    ) -> tuple[dict[str, int], float]:
        """Prune in place; returns the units that each group kept, and what is left of the whole.

        In one step that is the agreed plan; in several the same groups lose as much in all.
        """
        settings = self._settings
        kept: dict[str, int] = {}
        left, plan = 1.0, agreed
        for step in range(1, settings.steps + 1 if agreed.kept else 1):
            share = agreed.reached ** (step / settings.steps)
            self._context.progress.update(f"step {step} of {settings.steps}")
            if step > 1:
                found = find_groups(model, self._inputs)
            if settings.steps > 1:
                plan = self.plan(model, found, agreed.kept, whole, share / left)
            keep(model, found, plan.kept)
            if self._workload.calibration is not None and batch_norms(model):
                recalibrate(self._workload, model, _RECALIBRATED)
            left *= plan.reached
            kept |= {name: len(units) for name, units in plan.kept.items()}
            tuning = settings.finetune if step == settings.steps else settings.between
            if tuning is not None:
                label = f"prune step {step}"
                finetune(self._workload, model, tuning, self._context, label=label)
        return kept, left


def _alike(groups: Sequence[Group], plan: Plan) -> list[list[Group]]:
    """The pruned groups, those of the same shape together."""
    kinds: dict[tuple[object, ...], list[Group]] = defaultdict(list)
    for group in groups:
        if group.name in plan.kept:
            roles = tuple(sorted((m.role, m.axis, m.index.shape) for m in group.members))
            kinds[group.size, len(plan.kept[group.name]), roles].append(group)
    return list(kinds.values())


def _changes(whole: Mapping[str, Group], kept: Mapping[str, int]) -> list[Change]:
    return [
        Change(name, _channels(whole[name], whole[name].size), _channels(whole[name], count))
        for name, count in kept.items()
    ]


def _channels(group: Group, units: int) -> str:
    width = channels_of(group)
    if width == 1:
        return f"{units} channels"
    return f"{units} blocks of {width} channels"
