"""Prometheus' text format (version 0.0.4).

Written by hand for two reasons: the client library ends every counter's name in ``_total``, which
Triton's names do not have, and importing it takes 12 MB of memory. A test reads what comes out with
that library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["CONTENT_TYPE", "Family", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class Family:
    """All samples of one metric.

    Attributes:
        name: without the suffix of a sample.
        kind: of metric.
        told: what it is.
        samples: suffix, labels and value of each.
    """

    name: str
    kind: Literal["counter", "gauge", "summary", "histogram"]
    told: str
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, labels: dict[str, str] | None = None, suffix: str = "") -> None:
        """One more sample."""
        self.samples.append((suffix, labels or {}, value))


def render(families: Iterable[Family]) -> bytes:
    """The body of the answer to a scrape; metrics without a sample are left out."""
    lines = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {family.told}\n")
            lines.append(f"# TYPE {family.name} {family.kind}\n")
            for suffix, labels, value in family.samples:
                lines.append(f"{family.name}{suffix}{_labels(labels)} {_number(value)}\n")
    return "".join(lines).encode()


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return str(value) if isinstance(value, int) else repr(float(value))
