"""What the few-shot learners share: the encoder, and episodes to learn from and be judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._entry import Made
from edgekit.zoo._episodes import Episode, episode, held_out, seen

__all__ = ["encode", "encoder", "few_shot", "samples"]

#: Episodes to learn from have more classes than those to be judged by (Snell et al., 2017, 2.6).
_WAYS, _SHOTS, _QUERIES = 20, 5, 5
_EPISODES = 20  # an epoch
_CALIBRATED = 16


def encoder(width: int = 48) -> nn.Sequential:
    """Images (n, 1, 28, 28) to (n, 4 * width): the four blocks of the papers' small encoder.

    Its convolutions have strides in place of poolings, as MAML's for Omniglot.
    """
    return nn.Sequential(
        conv_bn(1, width, 3, 2),
        conv_bn(width, width, 3, 2),
        conv_bn(width, width, 3, 2),
        conv_bn(width, width, 3, 2),
        nn.Flatten(),
    )


def encode(
    network: nn.Module, support: torch.Tensor, query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """All images in one pass: (ways, shots, features) and (queries, features)."""
    known = support.shape[0] * support.shape[1]
    features = network(torch.cat([support.flatten(0, 1), query]))
    return features[:known].unflatten(0, support.shape[:2]), features[known:]


def samples(known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The drawings of all classes (ways * shots, features), and their classes, one-hot."""
    ways, shots = known.shape[:2]
    places = torch.arange(ways, device=known.device)
    classes = (places.unsqueeze(1) == places).to(known.dtype)
    return known.flatten(0, 1), classes.unsqueeze(1).expand(-1, shots, -1).flatten(0, 1)


def few_shot(
    name: str, description: str, build: Callable[[], nn.Module], *, source: str, epochs: int
) -> Made:
    """A learner whose one call learns new classes and classifies.

    It takes ``support`` (ways, shots, 1, 28, 28), a row for each class, and ``query``
    (queries, 1, 28, 28), both float32 in [0, 1], and gives ``scores`` (queries, ways), the
    logarithms of probabilities. The numbers of classes, of drawings of each and of queries are the
    caller's choice.

    Args:
        name: its name in the zoo.
        description: one sentence.
        build: makes the untrained module.
        source: where its bar comes from.
        epochs: of 20 episodes each.
    """
    return Made(
        name=name,
        family="self-supervised and metric",
        description=description,
        bar=0.93,
        source=source,
        build=build,
        make=lambda model: _around(name, description, model),
        epochs=epochs,
        rate=3e-3,
    )


def _around(name: str, description: str, model: nn.Module) -> Workload:
    example = next(_calibration())
    return Workload(
        name=name,
        model=model,
        example_inputs={key: torch.from_numpy(array) for key, array in example.items()},
        output_names=["scores"],
        dynamic_shapes={"support": {0: "ways", 1: "shots"}, "query": {0: "queries"}},
        calibration=_calibration,
        evaluate=_evaluate,
        metric=Metric("five_shot_accuracy"),
        training=Training(
            _episodes,
            lambda outputs, batch: functional.nll_loss(outputs["scores"], batch["label"]),
        ),
        description=description,
    )


def _episodes(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(_EPISODES):
        one = episode(seen(), _WAYS, _SHOTS, _QUERIES, generator)
        yield {"support": one.support, "query": one.query, "label": one.label}


def _calibration() -> Iterator[Feeds]:
    generator = torch.Generator().manual_seed(2**31)
    for _ in range(_CALIBRATED):
        yield _feeds(episode(seen(), 5, 5, 3, generator), 5)


def _evaluate(predict: Predict) -> dict[str, float]:
    """Over 200 episodes of five characters from scripts that it has never seen."""
    return {
        "five_shot_accuracy": _accuracy(predict, 5),
        "one_shot_accuracy": _accuracy(predict, 1),
    }


def _accuracy(predict: Predict, shots: int) -> float:
    right = [
        predict(_feeds(one, shots))["scores"].argmax(1) == one.label.numpy() for one in held_out()
    ]
    return float(np.concatenate(right).mean())


def _feeds(one: Episode, shots: int) -> Feeds:
    return {"support": one.support[:, :shots].numpy(), "query": one.query.numpy()}
