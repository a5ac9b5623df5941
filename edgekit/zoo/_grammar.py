"""English sentences and their German, by a small grammar in which the two differ.

German nouns have a gender, and articles, adjectives and some nouns change with it, with number and
with case: "the old dog" is "der alte Hund", "den alten Hund" or "dem alten Hund", by what it does.
The verb is second, after "today", too ("heute sieht der Hund ..."), a participle is last, and in a
subordinate clause all of the verb is ("... , dass der Hund die Katze gesehen hat").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from edgekit.spec import Array

__all__ = ["Pairs", "encoded", "pairs", "sentences"]

_TRAINED, _JUDGED = 12000, 600


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentences to learn on and others, English and German, and the words of both languages."""

    train: Sequence[tuple[str, str]]
    test: Sequence[tuple[str, str]]
    english: Sequence[str]
    german: Sequence[str]


class _Noun(NamedTuple):
    one: str
    many: str
    gender: str
    german: str
    germans: str
    dative: str  # of several


class _Verb(NamedTuple):
    plain: str
    third: str
    participle: str
    german: str  # he
    germans: str  # they
    done: str
    case: str


_NOUNS = (
    _Noun("man", "men", "m", "Mann", "Männer", "Männern"),
    _Noun("dog", "dogs", "m", "Hund", "Hunde", "Hunden"),
    _Noun("teacher", "teachers", "m", "Lehrer", "Lehrer", "Lehrern"),
    _Noun("bird", "birds", "m", "Vogel", "Vögel", "Vögeln"),
    _Noun("doctor", "doctors", "m", "Arzt", "Ärzte", "Ärzten"),
    _Noun("woman", "women", "f", "Frau", "Frauen", "Frauen"),
    _Noun("cat", "cats", "f", "Katze", "Katzen", "Katzen"),
    _Noun("daughter", "daughters", "f", "Tochter", "Töchter", "Töchtern"),
    _Noun("nurse", "nurses", "f", "Pflegerin", "Pflegerinnen", "Pflegerinnen"),
    _Noun("mouse", "mice", "f", "Maus", "Mäuse", "Mäusen"),
    _Noun("child", "children", "n", "Kind", "Kinder", "Kindern"),
    _Noun("horse", "horses", "n", "Pferd", "Pferde", "Pferden"),
    _Noun("girl", "girls", "n", "Mädchen", "Mädchen", "Mädchen"),
    _Noun("animal", "animals", "n", "Tier", "Tiere", "Tieren"),
    _Noun("sheep", "sheep", "n", "Schaf", "Schafe", "Schafen"),
)
_VERBS = (
    _Verb("see", "sees", "seen", "sieht", "sehen", "gesehen", "acc"),
    _Verb("hear", "hears", "heard", "hört", "hören", "gehört", "acc"),
    _Verb("seek", "seeks", "sought", "sucht", "suchen", "gesucht", "acc"),
    _Verb("love", "loves", "loved", "liebt", "lieben", "geliebt", "acc"),
    _Verb("ask", "asks", "asked", "fragt", "fragen", "gefragt", "acc"),
    _Verb("help", "helps", "helped", "hilft", "helfen", "geholfen", "dat"),
    _Verb("thank", "thanks", "thanked", "dankt", "danken", "gedankt", "dat"),
    _Verb("answer", "answers", "answered", "antwortet", "antworten", "geantwortet", "dat"),
)
_ADJECTIVES = MappingProxyType(
    {
        "old": "alt",
        "small": "klein",
        "good": "gut",
        "new": "neu",
        "young": "jung",
        "quick": "schnell",
    }
)
_TIMES = MappingProxyType({"today": "heute", "now": "jetzt", "often": "oft", "here": "hier"})
_CLAUSES = (("says", "say", "that", "sagt", "sagen", "dass"),
            ("laughs", "laugh", "because", "lacht", "lachen", "weil"))  # fmt: skip

#: By case, then gender ("p" of several): the articles, and the adjective's ending after each.
_THE = {
    "nom": {"m": ("der", "e"), "f": ("die", "e"), "n": ("das", "e"), "p": ("die", "en")},
    "acc": {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e"), "p": ("die", "en")},
    "dat": {"m": ("dem", "en"), "f": ("der", "en"), "n": ("dem", "en"), "p": ("den", "en")},
}
_A = {
    "nom": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
    "acc": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")},
    "dat": {"m": ("einem", "en"), "f": ("einer", "en"), "n": ("einem", "en")},
}


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """That many different pairs of English and German, words with spaces between."""
    generator = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        english, german = _sentence(generator)
        found[english] = german
    return list(found.items())


def _sentence(draw: np.random.Generator) -> tuple[str, str]:
    time = list(_TIMES)[draw.integers(len(_TIMES))]
    kind = draw.random()
    if kind < 0.4:
        return _clause(draw, "main")
    if kind < 0.7:
        english, german = _clause(draw, "inverted")
        return f"{time} {english}", f"{_TIMES[time]} {german}"
    who, wer, many = _phrase(draw, "nom", short=True)
    third, plain, joint, er, sie, bindet = _CLAUSES[draw.integers(len(_CLAUSES))]
    english, german = _clause(draw, "subordinate")
    return (
        f"{who} {plain if many else third} {joint} {english}",
        f"{wer} {sie if many else er} , {bindet} {german}",
    )


def _clause(draw: np.random.Generator, order: str) -> tuple[str, str]:
    """Somebody does something to somebody, or has done so."""
    verb = _VERBS[draw.integers(len(_VERBS))]
    who, wer, many = _phrase(draw, "nom", short=order == "subordinate")
    whom, wen, _ = _phrase(draw, verb.case, short=order == "subordinate")
    if draw.random() < 0.4:
        does, tut = ("have", "haben") if many else ("has", "hat")
        does, last = f"{does} {verb.participle}", [verb.done]
    else:
        does, tut = (verb.plain, verb.germans) if many else (verb.third, verb.german)
        last = []
    ordered = {
        "main": [wer, tut, wen, *last],
        "inverted": [tut, wer, wen, *last],
        "subordinate": [wer, wen, *last, tut],
    }[order]
    return f"{who} {does} {whom}", " ".join(ordered)


def _phrase(draw: np.random.Generator, case: str, *, short: bool) -> tuple[str, str, bool]:
    """Article, perhaps an adjective, and noun, in both languages; and whether they are several."""
    noun = _NOUNS[draw.integers(len(_NOUNS))]
    # Several sheep look like one: they are always one here, so that no English has two meanings.
    many = bool(draw.random() < 0.35) and noun.one != noun.many
    indefinite = bool(draw.random() < 0.4) and not many
    article, ending = (_A if indefinite else _THE)[case]["p" if many else noun.gender]
    german = (noun.dative if case == "dat" else noun.germans) if many else noun.german
    english, words = ["a" if indefinite else "the"], [article]
    if not short and draw.random() < 0.6:
        adjective = list(_ADJECTIVES)[draw.integers(len(_ADJECTIVES))]
        english.append(adjective)
        words.append(_ADJECTIVES[adjective] + ending)
    english.append(noun.many if many else noun.one)
    # "an old man": English has its own agreement
    told = " ".join(english).replace("a old", "an old").replace("a animal", "an animal")
    return told, " ".join([*words, german]), many


@cache
def pairs() -> Pairs:
    """12,000 different sentences, and 600 that are not among them."""
    drawn = sentences(_TRAINED + _JUDGED, seed=0)
    english, german = (
        sorted({word for pair in drawn for word in pair[side].split()}) for side in (0, 1)
    )
    return Pairs(drawn[_JUDGED:], drawn[:_JUDGED], english, german)


def encoded(texts: Sequence[str], words: Sequence[str], end: int, length: int = 0) -> Array:
    """Indices of the words, ``end`` behind them, then 0 up to the longest or that length."""
    places = {word: index for index, word in enumerate(words)}
    rows = [[places[word] for word in text.split()] + [end] for text in texts]
    longest = max(length, *map(len, rows))
    return np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
