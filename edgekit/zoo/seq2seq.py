"""``zoo:seq2seq-dates``: reads a date as people write it and writes it as ISO 8601 has it.

A network of gated recurrent units with attention, in ``_seq2seq.py``. One call decodes: each step
takes the likeliest symbol, or, in ``zoo:seq2seq-dates-beam``, the same weights are searched with a
beam. Scores need no division by length, since all dates are of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._dates import dates
from edgekit.zoo._entry import Entry, Loaded, Made
from edgekit.zoo._seq2seq import BeamSearch, Seq2Seq, teach

__all__ = ["ENTRIES", "workload"]

_BATCH = 64
_TRAINED, _HELD_OUT = 12_800, 1000


def _around(model: nn.Module) -> Workload:
    return _workload(_GREEDY, model, ("scores", "symbols"), _TRAINING)


def _beam() -> Workload:
    model = _GREEDY.workload().model
    assert isinstance(model, Seq2Seq)
    searching = BeamSearch(model).eval()
    return _workload(_BEAM, searching, ("dates", "log_probability"))


def _workload(
    entry: Entry, model: nn.Module, outputs: tuple[str, str], training: Training | None = None
) -> Workload:
    texts, _ = dates(_TRAINED, held_out=False)
    return Workload(
        name=entry.name,
        model=model,
        example_inputs={"text": torch.from_numpy(texts[:2])},
        output_names=outputs,
        calibration=lambda: in_order({"text": texts[:512]}, _BATCH),
        evaluate=_evaluate,
        metric=Metric("exact_match"),
        training=training,
        description=entry.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    texts, wanted = dates(_TRAINED, held_out=False)
    return shuffled({"text": texts, "wanted": wanted}, _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["scores"].flatten(0, 1), batch["wanted"].flatten())


_TRAINING = Training(_batches, _loss)


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many held-out dates are right in all ten symbols; a beam search's are its first."""
    texts, wanted = dates(_HELD_OUT, held_out=True)
    found = [predict(feeds) for feeds in in_order({"text": texts}, 4 * _BATCH)]
    if "dates" in found[0]:
        symbols = np.concatenate([one["dates"][:, 0] for one in found])
    else:
        symbols = np.concatenate([one["symbols"] for one in found])
    return {"exact_match": float((symbols == wanted).all(axis=1).mean())}


def _fit(model: nn.Module) -> None:
    """With the right symbols given; the workload's own training is without them."""
    assert isinstance(model, Seq2Seq)
    teach(model, _TRAINING, ["scores"], _GREEDY)


_SOURCE = (
    "dateutil's parser reads 0.816 of them; typing errors make less than one in fifty ambiguous"
)
_GREEDY = Made(
    name="seq2seq-dates",
    family="recurrent",
    description="GRU encoder and decoder with attention, from written dates to ISO 8601, greedily.",
    build=Seq2Seq,
    make=_around,
    fit=_fit,
    epochs=12,
    rate=6e-3,
    bar=0.98,
    source=_SOURCE,
)
_BEAM = Loaded(
    name="seq2seq-dates-beam",
    family="recurrent",
    description="The same network, with the four likeliest dates by beam search in the graph.",
    make=_beam,
    bar=0.98,
    source=_SOURCE,
)
ENTRIES = (_GREEDY, _BEAM)
workload = _GREEDY.workload
