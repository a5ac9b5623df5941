"""The points of a sweep at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.profile.choose import Aim, Choice, pareto
from edgekit.profile.figures import Measured

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_choice", "print_points"]


def print_points(
    points: Sequence[Measured], skipped: dict[str, str], aim: Aim, console: Console
) -> None:
    """Every point with its latency and throughput; those that no other one beats are marked."""
    from rich.table import Table

    share = aim.latency
    front = {point.name for point in pareto(points, share)}
    sizes = list(dict.fromkeys(name for point in points for name in point.settings.sizes))
    shares = sorted({50.0, 90.0, 99.0, share})
    table = Table("", "artifact", box=None)
    for column in ("threads", "batch", "streams", *sizes, "samples"):
        table.add_column(column, justify="right")
    for column in (*(f"p{one:g}" for one in shares), "samples/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in points:
        settings = point.settings
        table.add_row(
            "●" if point.name in front else "",
            point.artifact,
            *(str(one) for one in (settings.threads or "all", settings.batch, settings.streams)),
            *(str(settings.sizes.get(name, "-")) for name in sizes),
            str(point.count),
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


def print_choice(choice: Choice, aim: Aim, console: Console) -> None:
    """What is best for the aim, and why."""
    told = f"Best for {aim}: {choice.point.name}, {choice.reason}."
    console.print(told, highlight=False, markup=False, soft_wrap=True)
