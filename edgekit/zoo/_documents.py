"""Documents of WordNet: what its definitions of sister terms say, in one of eight fields.

A document has the definitions of three to six terms that are of one kind (all beeches, all taxes),
a sentence each, and WordNet's lexicographers filed them under animals, food, acts and so on. The
general term itself is not told. No definition is in two documents.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from edgekit.spec import Array
from edgekit.zoo._wordnet import folder

__all__ = ["FIELDS", "Documents", "corpus", "documents", "texts"]

#: Numbers of the lexicographers' files, see WordNet's lexnames(5WN).
FIELDS = {
    4: "act", 5: "animal", 6: "artifact", 10: "communication",
    13: "food", 18: "person", 20: "plant", 26: "state",
}  # fmt: skip
_SENTENCES, _WORDS = 6, 14
_MOST = 700
_KNOWN = 5000
#: Words are numbered from 2 on: 0 fills up, 1 is any other word.
_FIRST = 2


@dataclass(frozen=True, slots=True)
class Documents:
    """Words (n, 6, 14), int64, filled up with 0, and fields (n,), int64.

    Word number i + 2 is ``known[i]``; all others are 1.
    """

    train_words: Array
    train_fields: Array
    test_words: Array
    test_fields: Array
    known: tuple[str, ...]


@cache
def texts() -> tuple[tuple[tuple[str, ...], int], ...]:
    """Sentences and the index of their field, in an order of no meaning."""
    found: dict[int, list[tuple[str, ...]]] = {number: [] for number in FIELDS}
    used: set[str] = set()
    synsets = _synsets()
    for _, kinds, _ in synsets.values():
        fresh = [kind for kind in kinds if kind in synsets and kind not in used][:_SENTENCES]
        fields = Counter(synsets[kind][0] for kind in fresh)
        if len(fresh) >= 3 and len(fields) == 1 and (field := next(iter(fields))) in found:
            used.update(fresh)
            found[field].append(tuple(synsets[kind][2] for kind in fresh))
    order = np.random.default_rng(0)
    chosen = [
        (found[number][index], position)
        for position, number in enumerate(FIELDS)
        for index in order.permutation(len(found[number]))[:_MOST]
    ]
    return tuple(chosen[index] for index in order.permutation(len(chosen)))


@cache
def _synsets() -> dict[str, tuple[int, list[str], str]]:
    """Of each noun's offset: the lexicographer's file, the kinds of it, and the definition."""
    found = {}
    for line in (folder("3.3") / "data.noun").read_text(encoding="utf-8").splitlines():
        if line[:1].isdigit():  # not the licence
            fields, _, gloss = line.partition(" | ")
            kinds = re.findall(r" ~ (\d{8}) n", fields)
            definition = gloss.partition(";")[0].strip().lower()
            found[fields[:8]] = (int(fields[9:11]), kinds, definition)
    return found


@cache
def corpus() -> tuple[tuple[str, ...], ...]:
    """The words of all definitions of nouns, but those of documents held out."""
    held_out = {one for index, (told, _) in enumerate(texts()) if _held(index) for one in told}
    return tuple(_words(one) for _, _, one in _synsets().values() if one not in held_out)


@cache
def documents() -> Documents:
    """All documents as numbers of the 5000 most common words; every fifth is held out."""
    counts = Counter(word for sentence in corpus() for word in sentence)
    known = tuple(sorted(counts, key=lambda word: (-counts[word], word))[:_KNOWN])
    numbers = {word: index for index, word in enumerate(known, _FIRST)}
    words = np.zeros((len(texts()), _SENTENCES, _WORDS), np.int64)
    for document, (told, _) in enumerate(texts()):
        for index, sentence in enumerate(told):
            found = [numbers.get(word, _FIRST - 1) for word in _words(sentence)[:_WORDS]]
            words[document, index, : len(found)] = found
    fields = np.array([field for _, field in texts()])
    held_out = np.array([_held(index) for index in range(len(fields))])
    return Documents(words[~held_out], fields[~held_out], words[held_out], fields[held_out], known)


def _words(sentence: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", sentence))


def _held(document: int) -> bool:
    return document % 5 == 0
