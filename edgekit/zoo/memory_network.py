"""``zoo:memn2n-babi``: reads a short story and answers a question about it.

The memory network of Sukhbaatar et al. ("End-To-End Memory Networks", 2015): each sentence is a
memory; the question looks at all of them three times, by softmax of products, and each time what
it finds is added to it. With the paper's encoding of the words' places, of the sentences' age,
adjacent sharing of tables, and linear start.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made
from edgekit.zoo._fit import fit
from edgekit.zoo._stories import SENTENCES, TASKS, VOCABULARY, WORDS, stories

__all__ = ["ENTRIES", "MemN2N", "workload"]

_HOPS, _SIZE = 3, 40
_BATCH = 64
_TRAINED, _HELD_OUT = 15_000, 1500


class MemN2N(nn.Module):
    """Stories (n, sentences, 6) and questions (n, 6), int64, to scores of answers (n, words).

    Attributes:
        linear: whether the memories are weighed without softmax, as in the first part of training.
    """

    places: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # Hop k looks with table k and finds with table k + 1; the last one tells the answers.
        self.words = nn.ModuleList(nn.Embedding(len(VOCABULARY), _SIZE) for _ in range(_HOPS + 1))
        self.ages = nn.ParameterList(torch.zeros(SENTENCES, _SIZE) for _ in range(_HOPS + 1))
        self.register_buffer("places", _places(), persistent=False)
        self.linear = False
        for table in self.words.parameters():
            nn.init.normal_(table, std=0.1)

    def forward(self, story: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        state = self._encoded(0, question)
        # The youngest sentence has age 0.
        age = story.shape[1] - 1 - torch.arange(story.shape[1], device=story.device)
        memories = [self._encoded(k, story) + self.ages[k][age] for k in range(_HOPS + 1)]
        for hop in range(_HOPS):
            match = (memories[hop] @ state.unsqueeze(-1)).squeeze(-1)
            weights = match if self.linear else torch.softmax(match, dim=-1)
            state = state + (weights.unsqueeze(1) @ memories[hop + 1]).squeeze(1)
        answers = self.words[-1]
        assert isinstance(answers, nn.Embedding)
        return functional.linear(state, answers.weight)

    def _encoded(self, table: int, words: torch.Tensor) -> torch.Tensor:
        """Sentences (.., 6) as sums (.., size) of their words, weighted by their places."""
        real = (words != 0).unsqueeze(-1).to(self.places.dtype)
        return (self.words[table](words) * real * self.places).sum(-2)


def _places() -> torch.Tensor:
    """Weights (6, size): early words count more in some features, late ones in others."""
    place = torch.arange(1, WORDS + 1).unsqueeze(1) / WORDS
    feature = torch.arange(1, _SIZE + 1) / _SIZE
    return (1 - place) - feature * (1 - 2 * place)


def _around(model: nn.Module) -> Workload:
    train = stories(_TRAINED, held_out=False)
    inputs = _given(train)
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in inputs.items()},
        output_names=["logits"],
        dynamic_shapes={"story": {0: BATCH, 1: "sentences"}, "question": {0: BATCH}},
        calibration=lambda: in_order({k: x[:512] for k, x in inputs.items()}, _BATCH),
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        labels=[word or "(nothing)" for word in VOCABULARY],
        training=Training(lambda epoch: shuffled(train, _BATCH, epoch), _loss),
        description=_ENTRY.description,
    )


def _given(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: arrays[name] for name in ("story", "question")}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["logits"], batch["answer"])


def _evaluate(predict: Predict) -> dict[str, float]:
    """Of held-out stories: the mean of the three tasks' accuracies, and each of them."""
    test = stories(_HELD_OUT, held_out=True)
    found = [predict(feeds)["logits"] for feeds in in_order(_given(test), 4 * _BATCH)]
    right = np.concatenate(found).argmax(axis=1) == test["answer"]
    tasks = [float(right[test["task"] == task].mean()) for task in range(TASKS)]
    return {
        "accuracy": float(np.mean(tasks)),
        "one_fact": tasks[0],
        "two_facts": tasks[1],
        "yes_no": tasks[2],
    }


def _fit(model: nn.Module) -> None:
    """A fifth of the epochs without softmax, which spares bad minima (section 4.2)."""
    assert isinstance(model, MemN2N)
    workload = _around(model)
    for linear, epochs in ((True, _ENTRY.epochs // 5), (False, _ENTRY.epochs)):
        model.linear = linear
        fit(workload, model, epochs=epochs, rate=_ENTRY.rate)


_ENTRY = Made(
    name="memn2n-babi",
    family="recurrent",
    description="Memory network of three hops that answers questions about short stories.",
    build=MemN2N,
    make=_around,
    fit=_fit,
    epochs=40,
    rate=1e-2,
    bar=0.95,
    source="bAbI: a task is passed at 95 % (Weston et al., 2015)",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
