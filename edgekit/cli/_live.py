"""A live table of ``edgekit profile``, on stderr, drawn between rounds: nothing of it is timed.

There is no thread that redraws: on two cores it would take time from what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgekit.profile.points import Point, Unseen, View
from edgekit.profile.records import Settings
from edgekit.profile.rounds import round_seconds
from edgekit.profile.samples import Samples
from edgekit.profile.stats import least_samples
from edgekit.report.points import settings_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

__all__ = ["Lines", "LiveTable", "live_view", "sparkline"]

_REDRAW_S = 0.5
_WINDOWS = 9
_BARS = "▁▂▃▄▅▆▇█"

#: As perf_analyzer's criterion: the last three windows lie within 10 %.
_STABLE, _SPREAD = 3, 0.10


@contextmanager
def live_view(*, json: bool) -> Iterator[View]:
    """What shows a run: a table at a terminal, lines elsewhere, nothing with ``json``."""
    from rich.console import Console

    console = Console(stderr=True)
    if json:
        yield Unseen()
    elif not console.is_terminal:
        yield Lines()
    else:
        from rich.live import Live

        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield LiveTable(live, console)


class Lines(Unseen):
    """One plain line on stderr for each group of points."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._left = _Left()

    def stage(self, name: str) -> None:
        self._console.print(f"Profile: {name}", markup=False)

    def planned(self, points: Sequence[Point], seconds: float) -> None:
        self._left.planned(points, seconds)

    def begins(self, points: Sequence[Point]) -> None:
        told = "1 point" if len(points) == 1 else f"{len(points)} points"
        left = _duration(self._left.seconds())
        self._console.print(f"Profile: {told} in turns, about {left} left", markup=False)
        self._left.begins(points)

    def skips(self, point: Point, reason: str) -> None:
        self._console.print(f"{point.name}: skipped, {reason}", markup=False)


class LiveTable:
    """Every point that was begun, and how long the rest takes."""

    def __init__(self, live: Live, console: Console) -> None:
        self._live, self._console = live, console
        self._rows: dict[str, _Row] = {}
        self._left = _Left()
        self._stage = ""
        self._drawn = 0.0

    def stage(self, name: str) -> None:
        self._stage = name
        self._draw()

    def planned(self, points: Sequence[Point], seconds: float) -> None:
        self._left.planned(points, seconds)

    def begins(self, points: Sequence[Point]) -> None:
        for point in points:
            self._rows[point.name] = _Row(point.artifact.id, point.settings)
        self._stage = ""
        self._left.begins(points)
        self._draw()

    def took(self, points: Sequence[Point], samples: Sequence[Samples]) -> None:
        for point, taken in zip(points, samples, strict=True):
            self._rows[point.name].add(taken)
        if time.monotonic() - self._drawn > _REDRAW_S:
            self._draw()

    def skips(self, point: Point, reason: str) -> None:
        self._console.print(f"{point.name}: skipped, {reason}", markup=False, highlight=False)

    def _draw(self) -> None:
        self._live.update(self.table(), refresh=True)
        self._drawn = time.monotonic()

    def table(self) -> Table:
        """As it stands now."""
        from rich.table import Table

        left = self._left
        told = f"{left.done()} of {left.count} points done, {_duration(left.seconds())} left"
        told = self._stage or told
        columns = settings_of([row.settings for row in self._rows.values()])
        table = Table("artifact", box=None, pad_edge=False, caption=told, caption_justify="left")
        for column in (*columns, "count", "p50 ms", "p90", "p99", "samples/s"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("over time", no_wrap=True)
        table.add_column("", no_wrap=True)
        shown = max(5, self._console.height - 6)
        for index, row in list(enumerate(self._rows.values()))[-shown:]:
            chosen = (values[index] for values in columns.values())
            table.add_row(row.artifact, *chosen, *row.cells())
        return table


@dataclass
class _Row:
    """The samples of one point so far."""

    artifact: str
    settings: Settings
    latencies: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, samples: Samples) -> None:
        self.latencies.extend(samples.latencies_ns)
        self.seconds += float(round_seconds(samples).sum())

    def cells(self) -> list[str]:
        if not self.latencies:
            return ["", "", "", "", "", "", "warming up"]
        values = np.asarray(self.latencies) / 1e6
        p50, p90, p99 = np.percentile(values, (50, 90, 99))
        windows = [float(np.median(part)) for part in np.array_split(values, _WINDOWS) if part.size]
        recent = windows[-_STABLE:]
        spread = max(recent) / min(recent) - 1
        enough = values.size >= least_samples(0.99)
        return [
            str(values.size),
            f"{p50:.3f}",
            f"{p90:.3f}",
            f"{'' if enough else '~'}{p99:.3f}",
            f"{values.size * self.settings.batch / self.seconds:.1f}",
            sparkline(windows),
            "stable" if spread <= _SPREAD else f"±{spread / 2:.0%}",
        ]


@dataclass
class _Left:
    """How long the rest takes: points that were not begun, and what is left of those that were."""

    count: int = 0
    each: float = 0.0
    _begun: int = 0
    _group: int = 0
    _since: float = 0.0

    def planned(self, points: Sequence[Point], seconds: float) -> None:
        self.count, self.each = len(points), seconds

    def begins(self, points: Sequence[Point]) -> None:
        self._begun += len(points)
        self._group, self._since = len(points), time.monotonic()

    def done(self) -> int:
        return self._begun - self._group

    def seconds(self) -> float:
        current = self._group * self.each - (time.monotonic() - self._since) if self._group else 0.0
        return max(0.0, current) + (self.count - self._begun) * self.each


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the least to the greatest; equal heights where they differ little."""
    low = min(values)
    span = max(max(values) - low, _SPREAD * low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
