"""The points of a sweep at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.profile.choose import Aim, Choice, pareto
from edgekit.profile.figures import Measured
from edgekit.profile.records import Settings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_choice", "print_points", "settings_of"]


def print_points(
    points: Sequence[Measured], skipped: dict[str, str], aim: Aim, console: Console
) -> None:
    """Every point with its latency and throughput; those that no other one beats are marked."""
    from rich.table import Table

    share = aim.latency
    front = {point.name for point in pareto(points, share)}
    shares = sorted({50.0, 90.0, 99.0, share})
    columns = settings_of([point.settings for point in points])
    table = Table("", "artifact", box=None, pad_edge=False)
    table.columns[1].no_wrap = True
    for column in columns:
        table.add_column(column, justify="right")
    for column in (*(f"p{one:g}" for one in shares), "samples/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for index, point in enumerate(points):
        table.add_row(
            "●" if point.name in front else "",
            point.artifact,
            *(values[index] for values in columns.values()),
            *(f"{'~' if point.lacks(one) else ''}{point.latency(one):.3f}" for one in shares),
            f"{point.throughput:.1f}",
        )
    console.print(table)
    console.print(
        f"Latencies in milliseconds; ~: too few samples to be sure. ●: no other has both a lower "
        f"p{share:g} and a higher throughput.",
        style="dim",
        highlight=False,
        markup=False,
    )
    for name, reason in skipped.items():
        told = f"{name}: skipped, {reason}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)


def settings_of(every: Sequence[Settings]) -> dict[str, list[str]]:
    """The settings that are not the same everywhere: the value of each, by name."""
    sizes = dict.fromkeys(name for one in every for name in one.sizes)
    columns = {
        "threads": [str(one.threads or "all") for one in every],
        "batch": [str(one.batch) for one in every],
        "streams": [str(one.streams) for one in every],
        **{name: [str(one.sizes.get(name, "-")) for one in every] for name in sizes},
    }
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def print_choice(choice: Choice, aim: Aim, console: Console) -> None:
    """What is best for the aim, and why."""
    told = f"Best for {aim}: {choice.point.name}, {choice.reason}."
    console.print(told, highlight=False, markup=False, soft_wrap=True)
