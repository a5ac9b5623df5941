"""How much a removable unit of a group matters: one function a criterion.

Every criterion gives each unit of each group a score; low scores are removed first. Criteria that
estimate the rise of the loss (``taylor``, ``obd``) are comparable between groups as they are. The
others are divided by the group's mean, so that layers of different scale can share one ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import nn

from edgekit.compress.observe import observe_inputs
from edgekit.compress.prune.groups import Group, Member
from edgekit.compress.train.gradients import training_gradients
from edgekit.spec import Array
from edgekit.workload import Workload

__all__ = ["CRITERIA", "score_units"]

#: Batches of training data that gradients are averaged over, and of calibration data.
_BATCHES = 8

Scores = Mapping[str, Array]


def score_units(
    workload: Workload, model: nn.Module, groups: Sequence[Group], criterion: str, seed: int
) -> dict[str, Array]:
    """Score the units of every group.

    Args:
        workload: its training data gives gradients, its calibration data activations.
        model: the module that the groups were found in.
        groups: what could be removed.
        criterion: a key of :data:`CRITERIA`.
        seed: of ``random``.

    Returns:
        By group name a float64 array of shape ``(group.size,)``.

    Raises:
        WorkloadError: the criterion needs gradients, and the workload has no ``training``.
        CalibrationError: it needs activations, and there is no calibration data, or it is bad.
    """
    found = CRITERIA[criterion](workload, model, groups, seed)
    if criterion in _ABSOLUTE:
        return found
    return {name: scores / max(float(scores.mean()), 1e-30) for name, scores in found.items()}


def _norm(
    order: int, workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """L1 or squared L2 norm of all the weights that go with the unit (Li et al., 2017)."""
    del workload, seed
    state = model.state_dict()
    return _sums(groups, lambda member: state[member.parameter].abs() ** order, _weights)


def _norm_scale(
    workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """Magnitude of the normalization's weight (Liu et al., 2017, Network Slimming).

    A group without a normalization is judged by the L2 norm of its weights.
    """
    state = model.state_dict()
    trained = {name for name, _ in model.named_parameters()}

    def scales(members: Sequence[Member]) -> list[Member]:
        return [m for m in members if m.role == "scale" and _is_scale(m.parameter, trained)]

    with_norm = [group for group in groups if scales(group.members)]
    others = [group for group in groups if not scales(group.members)]
    return {
        **_sums(with_norm, lambda member: state[member.parameter].abs(), scales),
        **_norm(2, workload, model, others, seed),
    }


def _taylor(
    workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """First-order change of the loss when the unit goes, by batch (Molchanov et al., 2019)."""
    del seed
    totals = {group.name: np.zeros(group.size) for group in groups}
    for gradients in _gradients(workload, model):
        products = _sums(groups, partial(_times_weight, model, gradients), _produced)
        for name, change in products.items():
            totals[name] += np.abs(change)
    return totals


def _obd(
    workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """Second-order rise of the loss, half of w^2 times the diagonal of the empirical Fisher matrix.

    Optimal Brain Damage (LeCun et al., 1990) with the Fisher matrix in place of the Hessian.
    """
    del seed
    fisher: dict[str, torch.Tensor] = {}
    for gradients in _gradients(workload, model):
        for name, gradient in gradients.items():
            fisher[name] = fisher.get(name, torch.zeros_like(gradient)) + gradient**2
    weights = dict(model.named_parameters())

    def rise(member: Member) -> torch.Tensor:
        weight = weights[member.parameter].detach()
        return weight**2 * fisher.get(member.parameter, torch.zeros_like(weight)) / 2

    return _sums(groups, rise, _produced)


def _wanda(
    workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """Weight times the norm of its input, over all that reads the unit (Sun et al., 2024).

    What is read by no Linear or Conv alone (a packed attention projection, say) counts by its
    weight.
    """
    del seed
    state = model.state_dict()
    readers = {m.parameter for group in groups for m in group.members if m.role == "in"}
    norms = _input_norms(workload, model, readers)

    def product(member: Member) -> torch.Tensor:
        weight: torch.Tensor = state[member.parameter].abs()
        norm = norms.get(member.parameter)
        if norm is None or norm.numel() != weight.shape[member.axis]:
            return weight
        shape = [1] * weight.ndim
        shape[member.axis] = -1
        return weight * norm.reshape(shape)

    return _sums(groups, product, _read)


def _random(
    workload: Workload, model: nn.Module, groups: Sequence[Group], seed: int
) -> dict[str, Array]:
    """Any unit, the baseline that a criterion has to beat."""
    del workload, model
    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.size) for group in groups}


Criterion = Callable[[Workload, nn.Module, Sequence[Group], int], dict[str, Array]]

CRITERIA: Mapping[str, Criterion] = {
    "l1": partial(_norm, 1),
    "l2": partial(_norm, 2),
    "norm-scale": _norm_scale,
    "taylor": _taylor,
    "obd": _obd,
    "wanda": _wanda,
    "random": _random,
}

#: Criteria in units of the loss.
_ABSOLUTE = frozenset({"taylor", "obd"})


def _sums(
    groups: Sequence[Group],
    saliency: Callable[[Member], torch.Tensor],
    chosen: Callable[[Sequence[Member]], Sequence[Member]],
) -> dict[str, Array]:
    """By group the sum of ``saliency`` over the entries of each unit in the chosen members."""
    sums = {}
    for group in groups:
        total = np.zeros(group.size)
        for member in chosen(group.members):
            values = saliency(member).double().movedim(member.axis, 0)
            along = values.reshape(values.shape[0], -1).sum(1).cpu().numpy()
            total += along[member.index].sum(axis=1)
        sums[group.name] = total
    return sums


def _weights(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.role != "scale"]


def _produced(members: Sequence[Member]) -> list[Member]:
    """What makes the unit: removing it, or what reads it, changes the loss alike."""
    return [member for member in members if member.role == "out"] or list(members)


def _read(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.role == "in"] or list(members)


def _is_scale(parameter: str, trained: set[str]) -> bool:
    return parameter in trained and parameter.rpartition(".")[2] == "weight"


def _times_weight(
    model: nn.Module, gradients: Mapping[str, torch.Tensor], member: Member
) -> torch.Tensor:
    gradient = gradients.get(member.parameter)
    weight = model.get_parameter(member.parameter).detach()
    return torch.zeros_like(weight) if gradient is None else torch.mul(weight, gradient)


def _gradients(workload: Workload, model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    return training_gradients(
        workload,
        model,
        dict(model.named_parameters()),
        batches=_BATCHES,
        needed_by="this importance",
        otherwise="choose the importance l1, l2 or wanda",
    )


def _input_norms(
    workload: Workload, model: nn.Module, parameters: set[str]
) -> dict[str, torch.Tensor]:
    """Euclidean norm of each input channel of the Linear and Conv that own the parameters."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    readers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) and f"{name}.weight" in parameters
    }
    totals: dict[str, torch.Tensor] = {}

    def add(name: str, values: torch.Tensor) -> None:
        axis = -1 if isinstance(readers[name], nn.Linear) else 1
        squares = values.double().square().movedim(axis, 0).flatten(1).sum(1)
        totals[name] = totals.get(name, torch.zeros_like(squares)) + squares

    feeds = islice(workload.feeds(), _BATCHES)
    observe_inputs(model, readers, feeds, list(workload.example_inputs), add)
    return {f"{name}.weight": total.sqrt() for name, total in totals.items()}
