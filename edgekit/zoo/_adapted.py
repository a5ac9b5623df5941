"""Learners that are trained so that a few gradient steps make a classifier of new classes of them.

The checkpoint is where these steps start. The workload is what they end in: a plain classifier of
five characters that the learner had never seen, of which it was shown five drawings each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.reference import in_pieces
from edgekit.spec import Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._episodes import Episode, episode, unseen
from edgekit.zoo._fewshot import encoder
from edgekit.zoo._mnist import augment

__all__ = ["SHOTS", "WAYS", "Adapt", "adapted", "settled", "start", "task"]

WAYS, SHOTS = 5, 5
_QUERIES = 200
_WIDTH = 32
_BATCH = 250
_REPEATS = 4

#: ``adapt(model, images, labels)`` trains the module in place by a few drawings.
Adapt = Callable[[nn.Module, torch.Tensor, torch.Tensor], None]


def start() -> nn.Module:
    """The network before it has learned anything: images (n, 1, 28, 28) to logits (n, 5)."""
    network = encoder(_WIDTH)
    head = nn.Linear(4 * _WIDTH, WAYS)
    nn.init.zeros_(head.weight)  # no class is like another, in any order
    return network.append(head)


def task(seed: int) -> Episode:
    """Five characters that no learner has seen, and 200 more drawings of each."""
    generator = torch.Generator().manual_seed(seed)
    return episode(unseen(), WAYS, SHOTS, _QUERIES, generator)


def settled(model: nn.Module, support: torch.Tensor, adapt: Adapt) -> nn.Module:
    """A copy that has learned the classes of a support set (ways, shots, 1, 28, 28).

    Its batch norms keep the statistics of these drawings, with which it learned.
    """
    images, labels = support.flatten(0, 1), torch.arange(WAYS).repeat_interleave(support.shape[1])
    learner = copy.deepcopy(model).train()
    with torch.enable_grad():
        adapt(learner, images, labels)
    for module in learner.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a mean over all batches, which is the one that follows
            module.reset_running_stats()
    with torch.no_grad():
        learner(images)
    learner.zero_grad()
    return learner.eval()


def adapted(
    name: str,
    description: str,
    fit: Callable[[nn.Module], None],
    adapt: Adapt,
    *,
    bar: float,
    source: str,
) -> Made:
    """A classifier of images (n, 1, 28, 28), float32 in [0, 1], into five new characters.

    Args:
        name: its name in the zoo.
        description: one sentence.
        fit: trains the start on many tasks.
        adapt: trains it on one.
        bar: the least accuracy of it.
        source: where the bar comes from.
    """
    return Made(
        name=name,
        family="self-supervised and metric",
        description=description,
        bar=bar,
        source=source,
        build=start,
        make=lambda model: _around(name, description, settled(model, task(0).support, adapt)),
        fit=fit,
    )


def _around(name: str, description: str, model: nn.Module) -> Workload:
    shown = task(0)
    return Workload(
        name=name,
        model=model,
        example_inputs={"image": shown.query[:2]},
        output_names=["logits"],
        calibration=_calibration,
        evaluate=lambda predict: {"accuracy": _accuracy(predict, shown)},
        metric=Metric("accuracy"),
        labels=[f"character {place}" for place in range(1, WAYS + 1)],
        training=Training(
            _batches,
            lambda outputs, batch: functional.cross_entropy(outputs["logits"], batch["label"]),
        ),
        description=description,
    )


def _accuracy(predict: Predict, shown: Episode) -> float:
    logits = in_pieces(predict, _BATCH)({"image": shown.query.numpy()})["logits"]
    return float(np.mean(logits.argmax(1) == shown.label.numpy()))


def _calibration() -> Iterator[Feeds]:
    yield from ({"image": batch["image"].numpy()} for batch in _batches(2**31))


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """The drawings that were shown, moved a little: there are no others."""
    images = task(0).support.flatten(0, 1)
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(_REPEATS):
        label = torch.arange(WAYS).repeat_interleave(SHOTS)
        yield {"image": augment(images, generator), "label": label}
