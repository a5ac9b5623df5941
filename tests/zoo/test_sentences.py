"""Sentences to learn on: many, whole, each once, and not those that models are judged on."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekit import zoo
from edgekit.zoo import _sentences
from edgekit.zoo._sentences import split, unlabelled_sentences


def test_there_are_many_of_several_kinds_each_once() -> None:
    found = unlabelled_sentences()
    assert len(found) > 70_000
    assert len(set(found)) == len(found)
    assert all(5 <= len(one.split()) <= 50 for one in found)


def test_none_of_them_is_what_models_are_judged_on() -> None:
    data = Path(_sentences.__file__).parent / "data" / "sentences.txt"
    judged = data.read_text(encoding="utf-8").splitlines()
    learnt = {_plain(one) for one in unlabelled_sentences()}
    assert learnt.isdisjoint(_plain(one) for one in judged if one)


def _plain(sentence: str) -> str:
    return sentence.strip(" .!?").casefold()


def test_whole_sentences_are_split_and_the_rest_is_left_out() -> None:
    text = "This is the *first* of them. Too short. And here\nis another one, too! No end"
    assert list(split([text])) == ["This is the first of them.", "And here is another one, too!"]


def test_an_epoch_of_minilm_is_the_same_each_time_and_epochs_differ() -> None:
    workload = zoo.load("minilm")
    assert workload.unlabelled is not None
    first, again, other = (next(iter(workload.unlabelled(epoch))) for epoch in (0, 0, 1))
    assert first["input_ids"].shape == first["attention_mask"].shape
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["input_ids"], other["input_ids"])
