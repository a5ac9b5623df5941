"""What a clause of the protocol is, and what came of checking it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgekit.conformance.target import Target

__all__ = ["Clause", "Level", "NotApplicable", "Outcome", "Unmet", "as_list", "expect"]

#: ``must``: every server. ``extension``: a server that advertises it. ``should``: advice,
#: where the protocol is silent or leaves a choice and clients gain from one answer.
Level = Literal["must", "should", "extension"]

#: Longest description of an answer in a result.
_SHOWN = 300


class Unmet(Exception):  # noqa: N818, not an error of this program: what a server did
    """A server does something else than the clause says."""

    def __init__(self, expected: str, got: object) -> None:
        self.expected = expected
        self.got = str(got)[:_SHOWN]
        super().__init__(f"expected {expected}, got {self.got}")


class NotApplicable(Exception):  # noqa: N818, see above
    """The clause says nothing about this server or model; the message says why."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One checkable sentence of the protocol.

    Attributes:
        id: ``area/name``, stable between releases.
        level: how binding it is.
        requires: what a server does, in one sentence.
        check: returns when the server does it; raises :class:`Unmet` where it does something else
            and :class:`NotApplicable` where there is nothing to check.
        extension: has to be advertised in the server's metadata, else the clause is skipped.
    """

    id: str
    level: Level
    requires: str
    check: Callable[[Target], None]
    extension: str | None = None

    @property
    def area(self) -> str:
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one clause; ``reason`` says why it was skipped."""

    clause: Clause
    status: Literal["pass", "fail", "skipped"]
    expected: str = ""
    got: str = ""
    reason: str = ""

    @property
    def binding(self) -> bool:
        """Whether a server that fails here breaks the protocol."""
        return self.clause.level != "should"


def expect(condition: object, expected: str, got: object) -> None:
    """Go on if ``condition`` holds.

    Raises:
        Unmet: it does not.
    """
    if not condition:
        raise Unmet(expected, got)


def as_list(value: object, expected: str) -> list[Any]:
    """``value``, which is a list.

    Raises:
        Unmet: it is something else.
    """
    if not isinstance(value, list):
        raise Unmet(expected, value)
    return value
