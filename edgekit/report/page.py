"""``report.html``: one file, no scripts, no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from string import Template

from edgekit.manifest import Manifest
from edgekit.profile.records import Profile
from edgekit.report.layers import LayerComparison, layers_section
from edgekit.report.markup import text
from edgekit.report.sections.costs import costs
from edgekit.report.sections.diagnosis import diagnosis
from edgekit.report.sections.latency import latency
from edgekit.report.sections.layers import layers
from edgekit.report.sections.origin import machine, machine_text, notes, reproduce
from edgekit.report.sections.passes import calibration, passes, search
from edgekit.report.sections.runtimes import runtimes
from edgekit.report.sections.summary import summary
from edgekit.report.sections.tradeoff import tradeoff
from edgekit.report.sections.verification import verification
from edgekit.report.view import View, view_of

__all__ = ["document", "render", "render_view"]

#: In the order in which a reader meets them: what to do, then what shows it, then where from.
_SECTIONS = (
    summary, runtimes, latency, tradeoff, layers, costs, passes, verification, diagnosis,
)  # fmt: skip
_ORIGIN = (search, calibration, machine, notes, reproduce)


def render(
    manifest: Manifest, noise: Sequence[LayerComparison] = (), profile: Profile | None = None
) -> str:
    """The page. Everything that comes from the bundle is escaped."""
    return render_view(view_of(manifest, noise=noise, profile=profile))


def render_view(view: View) -> str:
    """The page of what was put together."""
    parts = [section(view) for section in _SECTIONS]
    parts.append(layers_section(view.noise))
    parts += [section(view) for section in _ORIGIN]
    measured = view.profile.machine if view.profile else view.manifest.machine
    told = f"{view.manifest.created[:10]} · {machine_text(measured)}"
    return document(view.manifest.name, told, parts)


def document(name: str, told: str, parts: Sequence[str]) -> str:
    """A whole page around sections.

    Args:
        name: the heading, plain text.
        told: a line below it, plain text.
        parts: sections as HTML, see :func:`~edgekit.report.markup.section`.
    """
    folder = files("edgekit.report")
    shown = [part for part in parts if part]
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        name=text(name),
        told=text(told),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        links="".join(_link(part) for part in shown),
        body="".join(shown),
    )


def _link(part: str) -> str:
    """To a section, read from its own tags; nothing for the summary, which is in sight."""
    if not part.startswith('<section id="') or 'class="hero"' in part[:60]:
        return ""
    identity = part.split('"', 2)[1]
    title = part.split("</h2>", 1)[0].rpartition(">")[2]
    return f'<li><a href="#{identity}">{title}</a></li>'
