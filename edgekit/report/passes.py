"""What the passes of a recipe did to the module, layer by layer: on the terminal, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.manifest import Manifest, PassRecord

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_passes", "summary_of", "undone"]


def summary_of(record: PassRecord) -> str:
    """One pass in a line: what it changed, and the proxies before and after."""
    told = [f"{record.name} changed {record.changed} of {record.total}"]
    if undone(record):
        told.append(f"{undone(record)} undone or left")
    for name, (before, after) in (("MACs", record.macs), ("parameters", record.parameters)):
        if before != after:
            told.append(f"{name} {before / 1e6:.4g} to {after / 1e6:.4g} million")
    return ", ".join(told)


def undone(record: PassRecord) -> int:
    """How many changes were undone or not made."""
    return sum(1 for change in record.changes if not change.kept)


def print_passes(manifest: Manifest, console: Console) -> None:
    """A line a pass; the layers are in the report."""
    for record in manifest.passes:
        score = "" if record.score is None else f", the module scores {record.score:.4f}"
        console.print(
            f"{summary_of(record)}{score}, {record.seconds:.0f} s",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        for detail in record.details:
            console.print(f"  {detail}", highlight=False, markup=False, soft_wrap=True)
