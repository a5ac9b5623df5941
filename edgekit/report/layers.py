"""Where compressed artifacts part from the uncompressed one, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit import diff
from edgekit.bundle import Bundle
from edgekit.diff.page import heat_strip, layer_table, strip_style, summary
from edgekit.manifest import Artifact
from edgekit.report.markup import folded, section, text
from edgekit.verify import unusable

__all__ = ["LayerComparison", "compare_layers", "layers_section"]

#: So many layers are listed, the worst first.
_LISTED = 10


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One artifact compared with another.

    Attributes:
        first: id of the uncompressed artifact.
        second: id of the other.
        found: how they differ.
    """

    first: str
    second: str
    found: diff.Difference


def compare_layers(bundle: Bundle) -> list[LayerComparison]:
    """Run each selected artifact and the uncompressed one of its runtime on the stored samples.

    Those of a runtime that cannot be used here are left out, and so are engines for GPUs and
    whatever was made from a changed module that no uncompressed artifact was made from.

    Raises:
        RuntimeUnavailableError: a runtime refuses its artifact.
    """
    manifest = bundle.manifest
    found = []
    for decision in manifest.decisions:
        second = manifest.artifact(decision.selected)
        first = _uncompressed(manifest.artifacts, second)
        if first in {None, second} or second.engine is not None or unusable(second.runtime):
            continue  # an engine for a GPU does not give what it computes inside
        assert first is not None
        one, other = diff.side_of(bundle, first), diff.side_of(bundle, second)
        difference = diff.compare(one, other, diff.shared_feeds(one, other))
        found.append(LayerComparison(first.id, second.id, difference))
    return found


def _uncompressed(artifacts: Sequence[Artifact], other: Artifact) -> Artifact | None:
    """The fp32 artifact on the same runtime that was made from the same PyTorch module."""
    for artifact in artifacts:
        same = artifact.runtime == other.runtime and artifact.reference == other.reference
        if same and artifact.precision.endswith("fp32"):
            return artifact
    return None


def layers_section(comparisons: Sequence[LayerComparison]) -> str:
    """HTML: a heat strip and the worst layers of each; empty without any."""
    parts = [_compared(one) for one in comparisons]
    style = f"<style>{strip_style()}</style>" if parts else ""
    return section("noise", "Layer by layer", *parts, style)


def _compared(one: LayerComparison) -> str:
    listed = one.found.ranked()[:_LISTED]
    worst = folded(
        f"The {len(listed)} layers that add most noise",
        f'<div class="wide">{layer_table(listed, one.found)}</div>',
    )
    title = f"{text(one.second)} against {text(one.first)}"
    return f"<h3>{title}</h3><p>{text(summary(one.found))}</p>{heat_strip(one.found)}{worst}"
