"""Dates as people write them, and as ISO 8601 has them.

A text is the indices of its characters (n, 32), int64, 0 behind its end; a date is ten symbols, the
digits and the hyphen, whose index is 10. One text in four has a letter too few, or two the wrong
way round. A date is either learnt from or held out, whatever it is written like.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

import numpy as np

from edgekit.spec import Array

__all__ = ["CHARACTERS", "LENGTH", "SYMBOLS", "WIDTH", "dates", "encode", "iso"]

CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789,./-'"
SYMBOLS = "0123456789-"
#: Characters of a text, and symbols of a date.
WIDTH, LENGTH = 32, 10
_FIRST = date(1950, 1, 1)  # years of two digits mean 1950 to 2049
_DAYS = 36525
_HELD_OUT = 5  # one day in so many

_FORMATS = (
    "{d} {month} {y}", "{d} {mon} {y}", "{d}{th} {month} {y}", "{d}{th} of {month} {y}",
    "{month} {d}, {y}", "{mon} {d}, {y}", "{month} {d}{th}, {y}", "{weekday}, {d} {month} {y}",
    "{weekday} {month} {d}, {y}", "{wd} {d} {mon} {y}", "{wd}, {mon} {d}, {y}", "{d}.{m}.{y}",
    "{d:02}.{m:02}.{yy}", "{m}/{d}/{y}", "{m:02}/{d:02}/{yy}", "{d} {mon} '{yy}",
    "{y} {month} {d}", "{d:02}-{mon}-{y}",
)  # fmt: skip


@cache
def dates(count: int, *, held_out: bool) -> tuple[Array, Array]:
    """Texts (count, 32) and their dates (count, 10), both int64, always the same ones."""
    drawn = np.random.default_rng(int(held_out))
    texts: list[str] = []
    wanted: list[str] = []
    while len(texts) < count:
        day = int(drawn.integers(_DAYS))
        if (day % _HELD_OUT == 0) is held_out:
            texts.append(_written(_FIRST + timedelta(day), drawn))
            wanted.append((_FIRST + timedelta(day)).isoformat())
    table = [[SYMBOLS.index(symbol) for symbol in text] for text in wanted]
    return encode(texts), np.array(table, np.int64)


def encode(texts: list[str]) -> Array:
    """Indices of their characters (n, 32), int64; characters that no date has are left out."""
    table = np.zeros((len(texts), WIDTH), np.int64)
    for row, text in zip(table, texts, strict=True):
        known = [1 + CHARACTERS.index(one) for one in text.lower() if one in CHARACTERS][:WIDTH]
        row[: len(known)] = known
    return table


def iso(symbols: Array) -> list[str]:
    """The dates (n, 10) as text."""
    return ["".join(SYMBOLS[one] for one in row) for row in symbols]


def _written(day: date, drawn: np.random.Generator) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    text = _FORMATS[drawn.integers(len(_FORMATS))].format(
        d=day.day,
        m=day.month,
        y=day.year,
        yy=f"{day.year % 100:02}",
        th="th" if day.day in {11, 12, 13} else ending,
        month=f"{day:%B}",
        mon=f"{day:%b}",
        weekday=f"{day:%A}",
        wd=f"{day:%a}",
    )
    return _mistyped(text.lower(), drawn) if drawn.random() < 0.25 else text.lower()


def _mistyped(text: str, drawn: np.random.Generator) -> str:
    """Without one of its letters, or with two neighbours exchanged; digits stay right."""
    places = [at for at in range(len(text) - 1) if text[at : at + 2].isalpha()]
    if not places:
        return text
    at = places[drawn.integers(len(places))]
    middle = text[at + 1] + (text[at] if drawn.random() < 0.5 else "")
    return text[:at] + middle + text[at + 2 :]
