"""How an artifact looks in every plot: one colour, one dash and one shape that stay its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgekit.report.markup import text

__all__ = ["COLOURS", "Mark", "legend", "marks_of"]

#: How many colours the style sheet has (``--c0`` ...), after Okabe and Ito: told apart with any
#: colour vision, on white and on black.
COLOURS = 8

_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")

#: Paths around the origin, about 5 units in each direction.
_SHAPES = (
    "M4.5 0A4.5 4.5 0 1 1-4.5 0A4.5 4.5 0 1 1 4.5 0Z",  # circle
    "M-4 -4H4V4H-4Z",  # square
    "M0 -5.2L5 3.8H-5Z",  # triangle
    "M0 -5.6L5.2 0L0 5.6L-5.2 0Z",  # diamond
    "M0 5.2L5 -3.8H-5Z",  # triangle down
    "M-1.6 -5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z",  # cross
    "M0 -5.5L1.6 -1.7L5.4 -1.7L2.4 .7L3.5 4.6L0 2.3L-3.5 4.6L-2.4 .7L-5.4 -1.7L-1.6 -1.7Z",  # star
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one artifact: ``index`` chooses all three, each of another period."""

    index: int

    @property
    def colour(self) -> str:
        """Class of the style sheet that sets the colour."""
        return f"c{self.index % COLOURS}"

    @property
    def dash(self) -> str:
        return _DASHES[self.index % len(_DASHES)]

    @property
    def shape(self) -> str:
        """Path data around the origin."""
        return _SHAPES[self.index % len(_SHAPES)]


def marks_of(artifacts: Iterable[str]) -> dict[str, Mark]:
    """A mark for each, in this order."""
    return {name: Mark(index) for index, name in enumerate(dict.fromkeys(artifacts))}


def legend(marks: Mapping[str, Mark], shown: Iterable[str]) -> str:
    """HTML: which mark is whose, for those that a plot shows."""
    items = []
    for name in dict.fromkeys(shown):
        mark = marks[name]
        dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
        items.append(
            f'<li><svg class="{mark.colour}" viewBox="0 0 30 12" width="30" height="12" '
            f'aria-hidden="true"><path class="stroke" d="M0 6H30"{dash}/>'
            f'<path class="fill" transform="translate(15 6)" d="{mark.shape}"/></svg>'
            f"{text(name)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'
