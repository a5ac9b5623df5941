"""A comparison as a table in the terminal and as an HTML page with a heat strip."""

from __future__ import annotations

import html
from collections.abc import Iterable
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from edgekit.diff.compare import Difference, LayerDifference

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "difference_page",
    "heat_strip",
    "layer_table",
    "print_difference",
    "strip_style",
    "summary",
]

#: From here on two tensors count as equal in the strip, in dB.
_EQUAL = 120.0


def print_difference(found: Difference, top: int, console: Console) -> None:
    """The ``top`` layers that add most noise, then what is to blame."""
    from rich.table import Table

    table = Table("layer", "module", "SQNR", "before", "own", "max abs", box=None)
    for layer in found.ranked()[:top]:
        mark = "[red]✗[/] " if layer == found.guilty else "  "
        table.add_row(
            f"{mark}{layer.op} {layer.tensor}",
            layer.module,
            layer.problem or _decibels(layer.sqnr_db),
            _decibels(layer.before_db),
            _decibels(layer.own_db),
            f"{layer.max_abs:.3g}",
        )
    console.print(table)
    console.print(summary(found), highlight=False, markup=False, soft_wrap=True)


def difference_page(found: Difference, first: str, second: str) -> str:
    """One self-contained page: a bar a layer in the order of computation, and all figures."""
    template = Template((files("edgekit.diff") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        first=html.escape(first),
        second=html.escape(second),
        summary=html.escape(summary(found)),
        style=strip_style(),
        strip=heat_strip(found),
        table=layer_table(found.layers, found),
    )


def strip_style() -> str:
    """The CSS of :func:`heat_strip`."""
    return (files("edgekit.diff") / "strip.css").read_text(encoding="utf-8")


def heat_strip(found: Difference) -> str:
    """HTML: a bar a layer in the order of computation."""
    bars = "".join(_bar(layer, found) for layer in found.layers)
    return (
        f'<div class="strip" role="img" aria-label="Difference of each layer">{bars}</div>'
        '<p class="axis"><span>first layer</span><span>the taller, the lower the SQNR: full height'
        " is 0 dB, none 120 dB</span><span>last layer</span></p>"
    )


def layer_table(layers: Iterable[LayerDifference], found: Difference) -> str:
    """HTML: a row of figures for each of these layers of ``found``."""
    names = ("tensor", "operator", "module", "SQNR", "of what it reads", "own", "max abs")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(_row(layer, found) for layer in layers)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def summary(found: Difference) -> str:
    """What was compared, and where they part."""
    compared = (
        f"{len(found.layers)} layers compared on {found.samples} samples"
        f" ({found.unmatched} without a counterpart)"
    )
    if found.guilty is None:
        return f"{compared}: none adds far more noise than the others."
    layer = found.guilty
    place = f" of {layer.module}" if layer.module else ""
    what = layer.problem or (
        f"SQNR {_decibels(layer.sqnr_db)} where what it reads has {_decibels(layer.before_db)}"
    )
    return f"{compared}: they part at {layer.op} {layer.tensor!r}{place}: {what}."


def _decibels(value: float) -> str:
    if value == float("inf"):
        return "equal"
    return "broken" if value < -_EQUAL or value == float("-inf") else f"{value:.1f} dB"


def _bar(layer: LayerDifference, found: Difference) -> str:
    heat = 1 - min(max(layer.sqnr_db, 0.0), _EQUAL) / _EQUAL
    told = f"{layer.op} {layer.tensor}, {layer.problem or _decibels(layer.sqnr_db)}"
    kind = ' class="guilty"' if layer == found.guilty else ""
    return f'<i{kind} style="--heat:{heat:.3f}" title="{html.escape(told)}"></i>'


def _row(layer: LayerDifference, found: Difference) -> str:
    cells = (
        ("➤ " if layer == found.guilty else "") + layer.tensor,
        layer.op,
        layer.module,
        layer.problem or _decibels(layer.sqnr_db),
        _decibels(layer.before_db),
        _decibels(layer.own_db),
        f"{layer.max_abs:.3g}",
    )
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>\n"
