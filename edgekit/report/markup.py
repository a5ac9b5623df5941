"""Pieces of HTML. What comes from outside is escaped here, or by who calls with ready HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = [
    "NONE",
    "code",
    "columns",
    "facts",
    "figure",
    "folded",
    "line",
    "missing",
    "section",
    "table",
    "text",
    "texts",
]

#: What stands in a cell that has no figure.
NONE = "-"

text = html.escape


def texts(entries: Iterable[str], kind: str = "ul") -> str:
    """A list of plain texts; empty without any."""
    items = "".join(f"<li>{text(entry)}</li>" for entry in entries)
    return f"<{kind}>{items}</{kind}>" if items else ""


def line(*cells: str, kind: str = "") -> str:
    """A row of a table from cells that are HTML."""
    name = f' class="{kind}"' if kind else ""
    return f"<tr{name}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(heads: Sequence[str], lines: Iterable[str], *, caption: str, kind: str = "") -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        heads: of the columns, HTML. One that begins with ``#`` is a column of figures.
        lines: rows, see :func:`line`.
        caption: what it shows; read aloud, and not seen where a heading says the same.
        kind: its class.
    """
    numeric = [str(index + 1) for index, head in enumerate(heads) if head.startswith("#")]
    head = "".join(f'<th scope="col">{name.removeprefix("#")}</th>' for name in heads)
    classes = " ".join([kind, *(f"n{index}" for index in numeric)]).strip()
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{text(caption)}">'
        f'<table class="{classes}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and plain values; those without a value are left out."""
    rows = (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value)
    return f'<dl class="facts">{"".join(rows)}</dl>'


def folded(summary: str, body: str, *, opened: bool = False) -> str:
    """Something that most readers do not need: closed at first."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{body}</details>"


def figure(
    title: str, drawing: str, *, legend: str = "", note: str = "", wide: bool = False
) -> str:
    """A plot with its title, a legend and a sentence on how to read it."""
    told = f'<p class="note">{text(note)}</p>' if note else ""
    kind = ' class="whole"' if wide else ""
    return f"<figure{kind}><figcaption>{text(title)}</figcaption>{legend}{drawing}{told}</figure>"


def columns(figures: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    found = "".join(figures)
    return f'<div class="figures">{found}</div>' if found else ""


def section(identity: str, title: str, *parts: str, lead: str = "") -> str:
    """A part of the page; nothing where it holds nothing."""
    body = "".join(parts)
    if not body:
        return ""
    told = f'<p class="lead">{lead}</p>' if lead else ""
    return (
        f'<section id="{identity}" aria-labelledby="{identity}-title">'
        f'<h2 id="{identity}-title">{text(title)}</h2>{told}{body}</section>'
    )


def missing(what: str, command: str) -> str:
    """Instead of a part that nobody measured: what would."""
    return f'<p class="missing">{text(what)}: not measured. Run {code(command)}</p>'


def code(command: str) -> str:
    """Something to type."""
    return f"<code>{text(command)}</code>"
