"""How much of a suite works, and why the rest does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.errors import GateError
from edgekit.zoo.check.outcome import RUNTIMES, Outcome

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_coverage", "require_coverage"]

#: Shares of what was built that have to export, and of what was exported that have to verify.
EXPORTED, VERIFIED = 0.95, 0.99


def print_coverage(outcomes: Sequence[Outcome], console: Console) -> None:
    """A row an architecture, the causes of failures, and the totals."""
    from rich.table import Table

    table = Table("architecture", "export", *(f"{one} dB" for one in RUNTIMES), "plain", box=None)
    for one in outcomes:
        if one.built:
            export = "dynamic" if one.dynamic else "static" if one.exported else "[red]no[/]"
            found = (
                f"{one.sqnr_db[name]:.0f}" if name in one.sqnr_db else "-" for name in RUNTIMES
            )
            table.add_row(one.kind, export, *found, "yes" if one.plain else "no")
    console.print(table)
    for one in outcomes:
        for stage, reason in one.reasons.items():
            told = f"{one.kind}, {stage}: {reason}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    console.print(_totals(outcomes), highlight=False, soft_wrap=True)


def require_coverage(outcomes: Sequence[Outcome]) -> None:
    """See that enough of them work.

    Raises:
        GateError: too few export, or too few of the exported ones verify.
    """
    built = [one for one in outcomes if one.built]
    exported = [one for one in built if one.exported]
    verified = [one for one in exported if one.verified]
    enough = len(exported) >= EXPORTED * len(built) and len(verified) >= VERIFIED * len(exported)
    if not built or not enough:
        raise GateError(
            _totals(outcomes),
            where="edgekit zoo check",
            fix="Look at the causes above",
        )


def _totals(outcomes: Sequence[Outcome]) -> str:
    built = [one for one in outcomes if one.built]
    exported = [one for one in built if one.exported]
    dynamic = sum(one.dynamic for one in exported)
    verified = sum(one.verified for one in exported)
    plain = sum(one.plain for one in built)
    return (
        f"{len(built)} of {len(outcomes)} architectures can be built small; "
        f"{len(exported)} export ({dynamic} with a dynamic batch), "
        f"{verified} of these verify on {' and '.join(RUNTIMES)}; "
        f"torch.onnx.export alone makes {plain} that verify on ONNX Runtime"
    )


def _decibels(outcome: Outcome, runtime: str) -> str:
    return f"{outcome.sqnr_db[runtime]:.0f}" if runtime in outcome.sqnr_db else "-"
