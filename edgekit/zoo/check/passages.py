"""How far the models of the zoo get, in a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.errors import GateError
from edgekit.zoo.check.model import Passage

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_passages", "require_passages"]


def print_passages(outcomes: Sequence[Passage], console: Console) -> None:
    """A row a model, what each runtime gets, and what went wrong."""
    from rich.table import Column, Table

    heads = (
        "metric", "fp32", "bar", "ONNX Runtime", "OpenVINO", "TensorRT-RTX", "served", "",
    )  # fmt: skip
    columns = [Column("model", no_wrap=True), *(Column(head, overflow="fold") for head in heads)]
    table = Table(*columns, box=None)
    for one in outcomes:
        table.add_row(*_row(one))
    console.print(table)
    for one in outcomes:
        for runtime, reason in one.selected.items():
            _tell(console, f"{one.kind}, {runtime}: {reason}")
        for stage, reason in one.reasons.items():
            _tell(console, f"{one.kind} failed, {stage}: {reason}")
    _tell(console, _summary(outcomes))


def require_passages(outcomes: Sequence[Passage]) -> None:
    """See that all of them pass.

    Raises:
        GateError: one does not.
    """
    if not all(one.passed for one in outcomes):
        raise GateError(
            _summary(outcomes), where="edgekit zoo check", fix="Look at the causes above"
        )


def _row(one: Passage) -> list[str]:
    said = {None: "-", True: "yes", False: "no"}
    score = "-" if one.score is None else f"{one.score:.4g}"
    served = "-" if one.served_db is None else f"{one.served_db:.0f} dB"
    return [
        one.kind, one.metric, score, f"{one.bar:.4g}", _scored(one, "onnxruntime"),
        _scored(one, "openvino"), said[one.engine], served, "passed" if one.passed else "FAILED",
    ]  # fmt: skip


def _scored(one: Passage, runtime: str) -> str:
    """The scores of the runtime's compressed artifacts, and which it gets."""
    chosen = one.selected.get(runtime, "").partition(":")[0].removeprefix(f"{runtime}-")
    scores = {
        name.removeprefix(f"{runtime}-"): score
        for name, score in one.scores.items()
        if name.startswith(f"{runtime}-")
    }
    made = [f"{name} {score:.4g}" for name, score in scores.items() if name != "fp32"]
    return ", ".join(made) + (f", ships {chosen}" if chosen else "") if scores else "-"


def _summary(outcomes: Sequence[Passage]) -> str:
    return f"{sum(one.passed for one in outcomes)} of {len(outcomes)} models pass"


def _tell(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
