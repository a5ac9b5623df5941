"""English sentences to learn on, out of packages that carry some: none of them is labelled.

Encyclopedia and news (samples that gensim tests with), the collected sayings of ``fortune``, the
documentation of Python, and WordNet's examples of how words are used: together some 75,000
sentences of all kinds.
"""

from __future__ import annotations

import bz2
import pydoc_data.topics
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from edgekit.zoo._wordnet import folder

__all__ = ["split", "unlabelled_sentences"]

_WORDS = range(5, 51)


@cache
def unlabelled_sentences() -> tuple[str, ...]:
    """All sentences, each once, always in the same order."""
    sources = (_encyclopedia(), _news(), _sayings(), _documentation())
    whole = (one for source in sources for one in split(source))
    return tuple(dict.fromkeys([*whole, *_usage()]))


def split(paragraphs: Iterable[str]) -> Iterator[str]:
    """The whole sentences of 5 to 50 words."""
    for paragraph in paragraphs:
        plain = re.sub(r"[*`\"]", "", " ".join(paragraph.split()))
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", plain):
            if len(sentence.split()) in _WORDS and re.fullmatch(r"[A-Z].*[.!?]", sentence):
                yield sentence


def _encyclopedia() -> Iterator[str]:
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    with (files("gensim") / "test" / "test_data" / name).open("rb") as file, bz2.open(file) as xml:
        for _, text, _ in extract_pages(xml, ["0"]):
            for line in filter_wiki(text or "").splitlines():
                if not line.startswith(("=", "*", "#", ":", ";", "|", "!", "{", "}", "<")):
                    yield line.replace("'''", "").replace("''", "").replace("()", "")


def _news() -> Iterator[str]:
    corpus = files("gensim") / "test" / "test_data" / "lee_background.cor"
    yield from corpus.read_text(encoding="utf-8").splitlines()


def _sayings() -> Iterator[str]:
    """Without who said it."""
    for file in sorted((files("fortune") / "datfiles").iterdir(), key=lambda one: one.name):
        if file.is_file() and not file.name.endswith(".dat"):
            for saying in file.read_bytes().decode(errors="ignore").split("\n%\n"):
                yield re.split(r"\n\s+-- ", saying)[0]


def _documentation() -> Iterator[str]:
    for paragraph in "\n\n".join(pydoc_data.topics.topics.values()).split("\n\n"):
        if not paragraph.startswith("    "):  # code
            yield paragraph


def _usage() -> Iterator[str]:
    """WordNet's examples; they neither begin with a capital letter nor end with a full stop."""
    for file in sorted(folder("3.3").glob("data.*")):
        for line in file.read_text(encoding="utf-8").splitlines():
            for example in re.findall(r'"([^"]+)"', line.partition(" | ")[2]):
                if len(example.split()) in _WORDS:
                    yield example
