"""Short stories with a question each, of the kind of bAbI's (Weston et al., 2015).

People walk between places, and take things along and put them down. Three of bAbI's twenty tasks
are asked: where somebody is (task 1, one supporting fact), where a thing is (task 2, two of them:
who has it or put it down, and where was that), and whether somebody is in a place (task 6).

A story is the indices of its words (n, 12, 6), int64: sentences from the first to the last, behind
empty ones where there are less than 12; a question is (n, 6); 0 behind a sentence's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from zlib import crc32

import numpy as np

from edgekit.spec import Array

__all__ = ["SENTENCES", "TASKS", "VOCABULARY", "WORDS", "stories"]

SENTENCES, WORDS, TASKS = 12, 6, 3
_PEOPLE = ("mary", "john", "sandra", "daniel")
_PLACES = ("kitchen", "garden", "office", "bathroom", "bedroom", "hallway")
_THINGS = ("milk", "apple", "football")
_WALKED = ("went to the", "moved to the", "travelled to the", "journeyed to the")
_TOOK = ("took the", "got the", "grabbed the")
_DROPPED = ("dropped the", "left the", "discarded the")
VOCABULARY = (
    "", *_PEOPLE, *_PLACES, *_THINGS, "yes", "no", "where", "is", "in",
    *sorted({word for text in _WALKED + _TOOK + _DROPPED for word in text.split()}),
)  # fmt: skip
_INDEX = {word: index for index, word in enumerate(VOCABULARY)}


@cache
def stories(count: int, *, held_out: bool) -> Mapping[str, Array]:
    """Always the same: ``story``, ``question``, and ``answer`` and ``task``, both (n,).

    One story in five is held out, whenever it is drawn, and is never learnt from.
    """
    drawn = np.random.default_rng(int(held_out))
    story = np.zeros((count, SENTENCES, WORDS), np.int64)
    question = np.zeros((count, WORDS), np.int64)
    answer = np.zeros(count, np.int64)
    task = np.arange(count) % TASKS
    for row in range(count):
        while True:
            told, asked, reply = _story(drawn, row % TASKS)
            if (crc32(" ".join([*told, asked]).encode()) % 5 == 0) is held_out:
                break
        for place, sentence in enumerate(told, SENTENCES - len(told)):
            _write(story[row, place], sentence)
        _write(question[row], asked)
        answer[row] = _INDEX[reply]
    return {"story": story, "question": question, "answer": answer, "task": task}


def _write(row: Array, sentence: str) -> None:
    indices = [_INDEX[word] for word in sentence.split()]
    row[: len(indices)] = indices


def _story(drawn: np.random.Generator, task: int) -> tuple[list[str], str, str]:
    """A story, a question that it answers, and the answer."""
    while True:
        told, people, things = _happened(drawn, int(drawn.integers(4, SENTENCES + 1)))
        known = {name: place for name, place in things.items() if place}
        if task == 1 and known:
            thing = _one(drawn, tuple(known))
            return told, f"where is the {thing}", known[thing]
        if task != 1:
            person = _one(drawn, tuple(people))
            if task == 0:
                return told, f"where is {person}", people[person]
            place = people[person] if drawn.random() < 0.5 else _one(drawn, _PLACES)
            reply = "yes" if people[person] == place else "no"
            return told, f"is {person} in the {place}", reply


def _happened(
    drawn: np.random.Generator, length: int
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Sentences, and where people and things are in the end, as far as it was told."""
    told: list[str] = []
    people: dict[str, str] = {}
    things: dict[str, str] = {}
    holders: dict[str, str] = {}
    while len(told) < length:
        person, thing = _one(drawn, _PEOPLE), _one(drawn, _THINGS)
        if person not in people or drawn.random() < 0.6:
            place = _one(drawn, _PLACES)
            if place == people.get(person):
                continue
            told.append(f"{person} {_one(drawn, _WALKED)} {place}")
            people[person] = place
            things |= {one: place for one, holder in holders.items() if holder == person}
        elif holders.get(thing) == person:
            told.append(f"{person} {_one(drawn, _DROPPED)} {thing}")
            del holders[thing]
        elif thing not in holders and things.get(thing, people[person]) == people[person]:
            told.append(f"{person} {_one(drawn, _TOOK)} {thing}")
            holders[thing], things[thing] = person, people[person]
    return told, people, things


def _one(drawn: np.random.Generator, of: tuple[str, ...]) -> str:
    return of[drawn.integers(len(of))]
