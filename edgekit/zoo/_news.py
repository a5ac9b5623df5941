"""Australian news as characters: Lee's corpus of 300 short articles, which gensim carries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from edgekit.spec import Array

__all__ = ["News", "news"]

#: So many characters that two articles have in common are a passage of one text: some are there
#: twice, a little changed. None of these is held out; of the others every eighth is.
_PASSAGE = 50
_HELD_OUT = 8


@dataclass(frozen=True, slots=True)
class News:
    """All characters that there are, and the articles as indices of them (n,), int64.

    An article ends in a line break.
    """

    alphabet: str
    train: Array
    test: Array

    def encoded(self, text: str) -> Array:
        """Indices of a text's characters."""
        return np.array([self.alphabet.index(one) for one in text], np.int64)

    def decoded(self, tokens: Array) -> str:
        """The text of indices."""
        return "".join(self.alphabet[one] for one in tokens)


@cache
def news() -> News:
    """269 articles to learn on, and 31 others that share nothing with them."""
    corpus = files("gensim") / "test" / "test_data" / "lee_background.cor"
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    alphabet = "".join(sorted(set("".join(lines))))
    empty = np.zeros(0, np.int64)
    whole = News(alphabet, empty, empty)
    alone = _alone(lines)
    held = alone[::_HELD_OUT]
    rest = [line for line in lines if line not in held]
    return News(alphabet, whole.encoded("".join(rest)), whole.encoded("".join(held)))


def _alone(articles: list[str]) -> list[str]:
    """Those of which no passage is in another one."""
    cut = [
        {one[place : place + _PASSAGE] for place in range(len(one) - _PASSAGE)} for one in articles
    ]
    counts = Counter(passage for passages in cut for passage in passages)
    return [
        one
        for one, passages in zip(articles, cut, strict=True)
        if max(counts[passage] for passage in passages) == 1
    ]
