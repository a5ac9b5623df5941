"""What a manager reads in ten seconds: what to ship, what it gains, what it costs."""

from __future__ import annotations

from edgekit.report.markup import text
from edgekit.report.verdict import Verdict, verdict_of
from edgekit.report.view import View

__all__ = ["summary"]


def summary(view: View) -> str:
    """A sentence or two and four figures."""
    found = verdict_of(view)
    findings = _findings(view)
    return (
        '<section id="summary" class="hero" aria-labelledby="summary-title">'
        f'<h2 id="summary-title" class="hidden">Summary</h2><p class="verdict">{_marked(found)}</p>'
        f'<dl class="big">{"".join(_figure(*one) for one in found.figures)}</dl>{findings}'
        "</section>"
    )


def _marked(found: Verdict) -> str:
    """The sentence with the name of the artifact set apart."""
    told = text(found.sentence)
    if found.ship:
        name = text(found.ship)
        told = told.replace(name, f"<strong>{name}</strong>", 1)
    return told


def _figure(name: str, value: str, told: str, mood: str) -> str:
    return (
        f'<div class="{mood}"><dt>{text(name)}</dt><dd><b>{text(value)}</b>'
        f"<small>{text(told)}</small></dd></div>"
    )


def _findings(view: View) -> str:
    if view.profile is None:
        return ""
    doubts = dict.fromkeys(one.kind for one in view.findings if one.doubt)
    others = dict.fromkeys(one.kind for one in view.findings if not one.doubt)
    parts = []
    if others:
        parts.append(f"worth a look: {', '.join(others)}")
    if doubts:
        parts.append(f"<b>how sure the figures are: {', '.join(doubts)}</b>")
    told = "; ".join(parts) or "nothing to mend, nothing in doubt"
    return f'<p class="note"><a href="#diagnosis">Diagnosis</a>: {told}.</p>'
