"""Goals in one word, such as ``p99<10ms``: what a scenario must hold, what a gate lets through.

::

    GOAL  = METRIC OP VALUE [UNIT]       p99<=8ms   drop<0.5   throughput>100   peak<0.5GB
    OP    = "<" | "<=" | ">" | ">="
    UNIT  = "us" | "ms" | "s" | "%" | "MB" | "GB" | "x"    times that of a baseline

What metrics there are, and which units they take, is up to who asks.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from edgekit.errors import SpecError

__all__ = ["UNITS", "Goal", "Op", "Unit", "parse_goal"]

Op = Literal["<", "<=", ">", ">="]
Unit = Literal["us", "ms", "s", "%", "MB", "GB", "x", ""]

#: Every unit: what it is a unit of, and its size in that quantity's base (seconds, one, bytes).
#: A number without a unit is one; so is what is given in times a baseline.
UNITS: Final[Mapping[Unit, tuple[str, float]]] = MappingProxyType(
    {
        "us": ("time", 1e-6),
        "ms": ("time", 1e-3),
        "s": ("time", 1.0),
        "%": ("share", 1e-2),
        "MB": ("memory", 1e6),
        "GB": ("memory", 1e9),
        "x": ("ratio", 1.0),
        "": ("number", 1.0),
    }
)

_COMPARE: Final[Mapping[Op, Callable[[float, float], bool]]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)
_GOAL = re.compile(
    r"\s*(?P<metric>[A-Za-z][\w./-]*)\s*(?P<op><=|>=|<|>)\s*"
    r"(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[^\s\d.]*)\s*",
    re.ASCII,
)
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        metric: what is judged, as it was written: ``p99``, ``throughput``, ``drop``.
        op: how it must compare with ``value``.
        value: in ``unit``; finite.
        unit: empty where none was written.
    """

    metric: str
    op: Op
    value: float
    unit: Unit = ""

    @property
    def percentile(self) -> float | None:
        """99 of ``p99``, 99.9 of ``p99.9``; None where the metric is no percentile above 0."""
        found = _PERCENTILE.fullmatch(self.metric)
        return (float(found[1]) or None) if found else None

    @property
    def quantity(self) -> str:
        """What it is a goal for: ``time``, ``share``, ``memory``, ``ratio`` or ``number``."""
        return UNITS[self.unit][0]

    def value_in(self, unit: Unit) -> float:
        """The value in another unit of the same quantity.

        Raises:
            SpecError: it is another quantity: milliseconds are no megabytes.
        """
        if UNITS[unit][0] != self.quantity:
            wanted = [name for name in UNITS if UNITS[name][0] == UNITS[unit][0]]
            raise SpecError(
                f"its value must be a {UNITS[unit][0]}",
                where=str(self),
                fix=f"Write it in {' or '.join(wanted)}" if unit else "Leave the unit out",
            )
        if unit == self.unit:
            return self.value
        return self.value * UNITS[self.unit][1] / UNITS[unit][1]

    def met(self, value: float, unit: Unit = "") -> bool:
        """Whether a measured value meets it; one that is not a number never does.

        Raises:
            SpecError: ``unit`` is one of another quantity.
        """
        return _COMPARE[self.op](value, self.value_in(unit))

    def __str__(self) -> str:
        return f"{self.metric}{self.op}{self.value:.15g}{self.unit}"


def parse_goal(text: str, *, option: str) -> Goal:
    """Read one goal.

    Args:
        text: such as ``p99<10ms``; spaces around the parts do not matter.
        option: that it was given with, for the message.

    Raises:
        SpecError: it is none, its value is not finite, or its unit is not known.
    """
    found = _GOAL.fullmatch(text)
    if found is None:
        raise SpecError(
            f"{text!r} is no goal",
            where=option,
            fix=f"Write {option} 'p99<10ms', say, in quotes: a shell reads < and > itself",
        )
    value = float(found["value"])
    if not math.isfinite(value):
        raise SpecError(f"{text!r} has no finite value", where=option, fix="Write a smaller number")
    for unit in get_args(Unit):
        if found["unit"] == unit:
            op: Op = found["op"]  # type: ignore[assignment]  # the pattern lets no other through
            return Goal(found["metric"], op, value, unit)
    raise SpecError(
        f"{text!r} has no unit that is known: {found['unit']!r}",
        where=option,
        fix=f"Use one of {', '.join(filter(None, UNITS))}, or none",
    )
