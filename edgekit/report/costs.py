"""What artifacts take beside their latency, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from edgekit.profile.records import Costs, Result
from edgekit.report.table import size_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_costs"]

_HEADS = (
    "load ms", "first ms", "start ms", "memory MB", "peak MB", "CPU ms", "energy mJ", "disk MB",
)  # fmt: skip


def print_costs(results: Sequence[Result], console: Console) -> None:
    """One row an artifact whose costs were measured; nothing where there are none."""
    from rich.table import Table

    measured = [(one.samples.artifact, one.costs) for one in results if one.costs is not None]
    if not measured:
        return
    table = Table("artifact", *_HEADS, box=None)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for artifact, costs in measured:
        table.add_row(artifact, *_cells(costs))
    console.print(table)
    for note in _notes([costs for _, costs in measured]):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _cells(costs: Costs) -> list[str]:
    return [
        *(f"{median(x) * 1e3:.3g}" for x in (costs.load_s, costs.first_s)),
        f"{median(costs.cold_start_s) * 1e3:.0f}",
        *(f"+{x / 1e6:.1f}" for x in (costs.steady_bytes, costs.peak_bytes)),
        f"{costs.cpu_s * 1e3:.3g}",
        "-" if costs.energy is None else f"{costs.energy.joules * 1e3:.3g}",
        f"{costs.disk_bytes / 1e6:.3g}",
    ]


def _notes(costs: Sequence[Costs]) -> list[str]:
    """What the columns mean, where their heads are too short for it."""
    bases = sorted(one.base_bytes for one in costs)
    held = size_text(bases[0])
    if size_text(bases[-1]) != held:
        held += f" to {size_text(bases[-1])}"
    processes = max(len(one.load_s) for one in costs)
    medians = f"Medians of {processes} fresh process{'' if processes == 1 else 'es'}."
    start = "start: from the start of the process to the first answer."
    notes = [f"{medians} {start} Memory is above the {held} that Python and the engine hold."]
    domains = {one.energy.domain: one.energy.idle_watts for one in costs if one.energy is not None}
    notes += [
        f"Energy of one inference is that of {domain}, which takes {watts:.3g} W at rest."
        for domain, watts in domains.items()
    ]
    missing = dict.fromkeys(one.energy_missing for one in costs if one.energy_missing)
    return [*notes, *(f"Energy: {reason}." for reason in missing)]
