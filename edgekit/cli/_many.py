"""Options that take several words: ``--sweep threads=1,2 batch=1,8``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from typer.core import TyperCommand

__all__ = ["ManyValues", "spread"]

_OPTIONS = frozenset({"--sweep"})
_VALUE = re.compile(r"[A-Za-z][\w:.-]*=")


class ManyValues(TyperCommand):
    """A command whose ``--sweep`` takes every word after it that is KEY=VALUE."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, which knows one word an option only."""
        return super().parse_args(ctx, list(spread(args)))


def spread(words: Iterable[str]) -> Iterator[str]:
    """The same command line with the option repeated before each of its values."""
    option = ""
    values = 0
    for word in words:
        if word in _OPTIONS:
            option, values = word, 0
        elif option and _VALUE.match(word):
            values += 1
            if values > 1:
                yield option
        else:
            option = ""
        yield word
