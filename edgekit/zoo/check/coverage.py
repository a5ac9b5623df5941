"""How much of a suite works, and why the rest does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgekit.errors import GateError
from edgekit.zoo.check.examples import FAMILIES
from edgekit.zoo.check.outcome import RUNTIMES, Outcome

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["COLUMNS", "Totals", "print_coverage", "require_coverage", "row", "totals"]

#: Shares of what was built that have to export, of what was exported that have to verify, and,
#: where engines are built, of what was exported that have to become one.
EXPORTED, VERIFIED, ENGINES = 0.95, 0.99, 0.85


@dataclass(frozen=True, slots=True)
class Totals:
    """How many architectures got how far.

    Attributes:
        family: what they work on; ``all`` for all of them.
        built: a small model of them runs.
        exported: edgekit exports them.
        dynamic: of these, with a dynamic batch.
        verified: of the exported ones, they compute what PyTorch does on every runtime.
        plain: ``torch.onnx.export`` alone makes a file that ONNX Runtime runs right; None where
            that was not tried.
        engines: TensorRT-RTX builds an engine; None where that was not tried.
    """

    family: str
    built: int
    exported: int
    dynamic: int
    verified: int
    plain: int | None
    engines: int | None

    @classmethod
    def of(cls, family: str, outcomes: Sequence[Outcome]) -> Totals:
        """Count those that could be built."""
        built = [one for one in outcomes if one.built]
        exported = [one for one in built if one.exported]
        return cls(
            family,
            built=len(built),
            exported=len(exported),
            dynamic=sum(one.dynamic for one in exported),
            verified=sum(one.verified for one in exported),
            plain=_tried([one.plain for one in built]),
            engines=_tried([one.engine for one in exported]),
        )


def totals(outcomes: Sequence[Outcome]) -> list[Totals]:
    """One for each family that is there, and one for all."""
    families = [name for name in (*FAMILIES, "") if any(o.family == name for o in outcomes)]
    parts = {name: [one for one in outcomes if one.family == name] for name in families}
    counted = [Totals.of(name or "other", part) for name, part in parts.items()]
    return [*(one for one in counted if one.built), Totals.of("all", outcomes)]


def row(outcome: Outcome) -> list[str]:
    """Cells of the table: architecture, family, export, dB by runtime, plain, engine."""
    exported = "dynamic" if outcome.dynamic else "static" if outcome.exported else "no"
    found = (
        f"{outcome.sqnr_db[name]:.0f}" if name in outcome.sqnr_db else "-" for name in RUNTIMES
    )
    said = {None: "-", True: "yes", False: "no"}
    tried = (said[outcome.plain], said[outcome.engine])
    return [outcome.kind, outcome.family, exported, *found, *tried]


#: What stands above the cells of :func:`row`.
COLUMNS = (
    "architecture", "family", "export", *(f"{one} dB" for one in RUNTIMES), "torch.onnx.export",
    "TensorRT-RTX",
)  # fmt: skip


def print_coverage(outcomes: Sequence[Outcome], console: Console) -> None:
    """A row an architecture, the causes of failures, and the totals."""
    from rich.table import Table

    table = Table(*COLUMNS, box=None)
    for one in outcomes:
        if one.built:
            table.add_row(*row(one))
    console.print(table)
    for one in outcomes:
        for stage, reason in one.reasons.items():
            told = f"{one.kind}, {stage}: {reason}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    counted = [asdict(part) for part in totals(outcomes)]
    counts = Table(*counted[0], box=None)
    for part in counted:
        counts.add_row(*("-" if value is None else str(value) for value in part.values()))
    console.print(counts)
    console.print(_summary(outcomes), highlight=False, soft_wrap=True)


def require_coverage(outcomes: Sequence[Outcome]) -> None:
    """See that enough of them work.

    Raises:
        GateError: too few export, too few of the exported ones verify, or become an engine.
    """
    found = Totals.of("all", outcomes)
    enough = (
        found.exported >= EXPORTED * found.built
        and found.verified >= VERIFIED * found.exported
        and (found.engines is None or found.engines >= ENGINES * found.exported)
    )
    if not found.built or not enough:
        raise GateError(
            _summary(outcomes),
            where="edgekit zoo check",
            fix="Look at the causes above",
        )


def _summary(outcomes: Sequence[Outcome]) -> str:
    found = Totals.of("all", outcomes)
    told = (
        f"{found.built} of {len(outcomes)} architectures can be built small; "
        f"{found.exported} export ({found.dynamic} with a dynamic batch), "
        f"{found.verified} of these verify on {' and '.join(RUNTIMES)}"
    )
    if found.engines is not None:
        told += f", TensorRT-RTX builds {found.engines}"
    if found.plain is not None:
        told += f"; torch.onnx.export alone makes {found.plain} that verify on ONNX Runtime"
    return told


def _tried(found: Sequence[bool | None]) -> int | None:
    """How many worked; None where nothing was tried."""
    return sum(map(bool, found)) if any(one is not None for one in found) else None
