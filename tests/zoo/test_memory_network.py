"""Stories answer what is asked, and the network answers rightly, whatever it was padded with."""

from __future__ import annotations

import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.spec import Array
from edgekit.zoo._stories import SENTENCES, TASKS, VOCABULARY, stories

STORIES = stories(600, held_out=True)


def _text(words: Array) -> str:
    return " ".join(VOCABULARY[index] for index in words if index)


def test_where_somebody_is_is_where_they_went_last() -> None:
    rows = [row for row in range(600) if STORIES["task"][row] == 0]
    for row in rows:
        person = _text(STORIES["question"][row]).split()[-1]
        told = [_text(one).split() for one in STORIES["story"][row]]
        walked = [one[-1] for one in told if one[:1] == [person] and one[2:3] == ["to"]]
        went = [place for place in walked if place]
        assert VOCABULARY[STORIES["answer"][row]] == went[-1]


def test_all_tasks_are_asked_equally_often() -> None:
    assert [(STORIES["task"] == task).sum() for task in range(TASKS)] == [200] * TASKS


def test_no_story_is_both_learnt_from_and_held_out() -> None:
    learnt, held_out = (
        {a.tobytes() + b.tobytes() for a, b in zip(one["story"], one["question"], strict=True)}
        for one in (stories(3000, held_out=False), STORIES)
    )
    assert learnt.isdisjoint(held_out)


def test_it_passes_each_task() -> None:
    workload = zoo.load("memn2n-babi")
    assert workload.evaluate is not None
    with reference_predict(workload) as predict:
        found = workload.evaluate(predict)
    assert min(found["one_fact"], found["two_facts"], found["yes_no"]) >= 0.95


def test_it_looks_at_the_sentence_that_answers() -> None:
    model = zoo.load("memn2n-babi").model
    words = {word: index for index, word in enumerate(VOCABULARY)}

    def indices(text: str) -> list[int]:
        found = [words[word] for word in text.split()]
        return found + [0] * (6 - len(found))

    told = ["mary went to the garden", "john moved to the office", "mary took the milk",
            "mary travelled to the kitchen"]  # fmt: skip
    story = torch.tensor([[indices(one) for one in told]])
    for question, answer in (("where is john", "office"), ("where is the milk", "kitchen")):
        with torch.no_grad():
            found = model(story, torch.tensor([indices(question)])).argmax()
        assert VOCABULARY[found] == answer
    assert story.shape[1] < SENTENCES
