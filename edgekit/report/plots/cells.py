"""Very small pictures that stand in a cell of a table."""

from __future__ import annotations

__all__ = ["pair", "share_bar"]


def pair(before: float, after: float) -> str:
    """Two short bars in a cell of a table: before and after."""
    longest = max(before, after) or 1.0
    return (
        '<svg class="pair" viewBox="0 0 80 14" width="80" height="14" aria-hidden="true">'
        f'<rect class="was" x="0" y="0" width="{80 * before / longest:.1f}" height="5" rx="1"/>'
        f'<rect class="now" x="0" y="8" width="{80 * after / longest:.1f}" height="6" rx="1"/>'
        "</svg>"
    )


def share_bar(share: float) -> str:
    """A bar in a cell of a table, full at 1; the figure stands beside it."""
    return (
        '<svg class="share" viewBox="0 0 100 10" width="100" height="10" aria-hidden="true">'
        f'<rect class="now" width="{max(100 * min(share, 1.0), 0.6):.1f}" '
        'height="10" rx="2"/></svg>'
    )
