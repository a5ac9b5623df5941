"""The latencies of a run in the terminal: percentiles with intervals, verdicts, comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.profile.samples import Samples
from edgekit.profile.stability import assess
from edgekit.profile.stats import Percentile, Summary, compare, summarize

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["comparison_lines", "outlier_line", "print_latency", "stability_lines"]

_SHOWN = (50.0, 90.0, 99.0)


def print_latency(samples: Sequence[Samples], console: Console) -> None:
    """The statistics of a profiling run, for a terminal of 80 columns or more."""
    from rich.table import Table

    table = Table("artifact", "samples", *(f"p{share:g}" for share in _SHOWN), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    summaries = [summarize(record) for record in samples]
    for record, summary in zip(samples, summaries, strict=True):
        found = [summary.percentiles[share] for share in _SHOWN]
        table.add_row(record.artifact, f"{summary.count}", *map(_value, found))
        table.add_row("", "", *map(_interval, found), style="dim")
    console.print(table)
    lines = [
        f"Milliseconds for {samples[0].call}, in one run, below them 95 % intervals.",
        *(line for both in zip(samples, summaries, strict=True) for line in outlier_line(*both)),
    ]
    for line in lines:
        console.print(line, style="dim", highlight=False, markup=False)
    for line in (*stability_lines(samples), *comparison_lines(samples)):
        console.print(line, highlight=False, markup=False)


def outlier_line(record: Samples, summary: Summary) -> Iterator[str]:
    """How many samples lie far out, in words; nothing where none does."""
    if summary.outliers:
        lie = "lies" if summary.outliers == 1 else "lie"
        yield (
            f"{record.artifact}: {summary.outliers} {lie} beyond {_ms(summary.outlier_limit)}, "
            f"up to {_ms(summary.highest)}; kept"
        )


def stability_lines(samples: Sequence[Samples]) -> list[str]:
    """The verdict on each artifact, and what else the machine did meanwhile."""
    verdicts: dict[str, list[str]] = {}
    causes: dict[str, None] = {}
    for record in samples:
        found = assess(record)
        words = replace(found, causes=()).words
        verdicts.setdefault(words, []).append(record.artifact)
        causes |= dict.fromkeys(found.causes)
    lines = [f"{', '.join(names)}: {words}" for words, names in verdicts.items()]
    return [*lines, f"Meanwhile: {', '.join(causes)}"] if causes else lines


def comparison_lines(samples: Sequence[Samples]) -> list[str]:
    """Every other artifact against the first one of the same interleaved run, in words."""
    first: dict[str, Samples] = {}
    lines = []
    for record in samples:
        base = first.setdefault(record.run, record)
        if base.artifact != record.artifact:
            lines.append(compare(base, record).words(record.artifact, base.artifact))
    return lines


def _value(found: Percentile) -> str:
    return _ms(found.value) if found.told else "-"


def _interval(found: Percentile) -> str:
    """Also why there is none."""
    if not found.told:
        return f"needs {found.needed}"
    return f"{_ms(found.low)}-{_ms(found.high) if math.isfinite(found.high) else '?'}"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.1f}"
