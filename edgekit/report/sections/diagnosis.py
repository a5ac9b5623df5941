"""What the figures say, in words."""

from __future__ import annotations

from edgekit.profile.diagnosis import RULES, Finding
from edgekit.report.findings import grouped
from edgekit.report.markup import folded, line, missing, section, table, text
from edgekit.report.view import View

__all__ = ["diagnosis"]


def diagnosis(view: View) -> str:
    """Findings with their figures; first where the time goes, then what makes figures doubtful."""
    if view.profile is None:
        return section("diagnosis", "Diagnosis", missing("Where the time goes", view.measure))
    slow = [finding for finding in view.findings if not finding.doubt]
    doubts = [finding for finding in view.findings if finding.doubt]
    timed = any(result.layers for result in view.profile.results)
    blind = "" if timed else " Layers were not timed, so the rules on them could not look."
    parts = [
        _part("Where the time goes", slow, f"No rule found anything to mend.{blind}"),
        _part("How sure the figures are", doubts, "Nothing makes these figures doubtful."),
        _rules(),
    ]
    return section("diagnosis", "Diagnosis", *parts)


def _part(title: str, findings: list[Finding], none: str) -> str:
    if not findings:
        return f"<h3>{title}</h3><p>{none}</p>"
    items = "".join(_finding(finding, names) for finding, names in grouped(findings))
    return f'<h3>{title}</h3><ul class="findings">{items}</ul>'


def _finding(finding: Finding, names: tuple[str, ...]) -> str:
    figures = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in finding.evidence
    )
    about = f'<span class="about">{text(", ".join(names))}</span>' if names else ""
    sign = "?" if finding.doubt else "!"
    return (
        f'<li class="{"doubt" if finding.doubt else "slow"}"><p><b class="kind"><span '
        f'aria-hidden="true">{sign}</span> {text(finding.kind)}</b> {about}</p>'
        f"<p>{text(finding.sentence)}</p>"
        f'<dl class="evidence">{figures}</dl><p class="advice">{text(finding.advice)}.</p></li>'
    )


def _rules() -> str:
    lines = [line(text(rule.kind), f"{rule.threshold:g}", text(rule.meaning)) for rule in RULES]
    listed = table(("kind", "#threshold", "of what"), lines, caption="What is looked for")
    return folded(f"The {len(RULES)} rules and their thresholds", listed)
