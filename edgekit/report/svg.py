"""Small plots as inline SVG. Colours are classes of the page, so that dark mode and print hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgekit.report.marks import Mark
from edgekit.report.markup import text

__all__ = ["Plot", "Scale", "nice", "spread"]

_WIDTH = 480


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to coordinates.

    Attributes:
        low: value at ``start``, as a rule the smallest; above 0 where ``log``.
        high: value at ``stop``.
        start: its coordinate.
        stop: its coordinate.
        log: whether equal steps are equal ratios.
    """

    low: float
    high: float
    start: float = 0.0
    stop: float = 1.0
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate; values outside stay outside."""
        low, high = self._axis(self.low), self._axis(self.high)
        share = (self._axis(value) - low) / ((high - low) or 1.0)
        return self.start + share * (self.stop - self.start)

    def within(self, start: float, stop: float) -> Scale:
        """The same over other coordinates."""
        return Scale(self.low, self.high, start, stop, self.log)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside, about ``most`` of them."""
        low, high = sorted((self.low, self.high))  # an axis may run downwards
        return _log_ticks(low, high, most) if self.log else _ticks(low, high, most)

    def _axis(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value


def spread(values: Iterable[float], *, log: bool = False, zero: bool = False) -> Scale:
    """A scale that shows all values with a little air around.

    Args:
        values: at least one; above 0 where ``log``.
        log: see :class:`Scale`.
        zero: begin at 0.
    """
    found = [value for value in values if math.isfinite(value)] or [1.0]
    low, high = min(found), max(found)
    if log:
        air = max((high / low) ** 0.06, 1.04)
        return Scale(low / air, high * air, log=True)
    air = (high - (0.0 if zero else low)) * 0.06 or abs(high) * 0.05 or 1.0
    return Scale(0.0 if zero else low - air, high + air)


def nice(value: float) -> str:
    """A figure of an axis: no more digits than it needs."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(most - 1, 1) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # One that a rounding puts at the edge must not lie beyond it.
    return [min(max(round(index * step, 12), low), high) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in decades for step in steps]
        found = [round(value, 12) for value in found if low <= value <= high]
        if len(found) <= most:
            return found if len(found) > 1 else _ticks(low, high, most)
    return found[:: math.ceil(len(found) / most)]


@dataclass(slots=True)
class Plot:
    """One plot: axes, then whatever is drawn into them, then :meth:`svg`.

    Attributes:
        x: values from left to right; given the coordinates of the plot when it is made.
        y: values from bottom to top.
        height: of the whole, in units of which the width is 480.
        left: room for the labels of the vertical axis.
        width: of the whole.
    """

    x: Scale
    y: Scale
    height: float = 290
    left: float = 52
    width: float = _WIDTH
    top: float = 12
    bottom: float = 44
    right: float = 14
    _parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x = self.x.within(self.left, self.width - self.right)
        self.y = self.y.within(self.height - self.bottom, self.top)

    def axes(
        self,
        x_label: str,
        y_label: str,
        *,
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> Plot:
        """Grid, figures and names of both axes; ``None`` ticks are round values."""
        floor, ceiling = self.y.start, self.y.stop
        for value, name in x_ticks if x_ticks is not None else _named(self.x.ticks(6)):
            at = self.x(value)
            self._parts.append(f'<path class="grid" d="M{at:.1f} {ceiling:.1f}V{floor:.1f}"/>')
            self.text(at, floor + 17, name, anchor="middle")
        for value, name in y_ticks if y_ticks is not None else _named(self.y.ticks(6)):
            at = self.y(value)
            self._parts.append(
                f'<path class="grid" d="M{self.x.start:.1f} {at:.1f}H{self.x.stop:.1f}"/>'
            )
            self.text(self.x.start - 6, at + 4, name, anchor="end")
        self._parts.append(
            f'<path class="axis" d="M{self.x.start:.1f} {floor:.1f}H{self.x.stop:.1f}"/>'
        )
        middle = (self.x.start + self.x.stop) / 2
        self.text(middle, self.height - 6, x_label, anchor="middle", kind="label")
        if y_label:
            at = (floor + ceiling) / 2
            self._parts.append(
                f'<text class="label" text-anchor="middle" transform="translate(13 {at:.1f}) '
                f'rotate(-90)">{text(y_label)}</text>'
            )
        return self

    def line(
        self, points: Iterable[tuple[float, float]], mark: Mark, *, kind: str = "stroke"
    ) -> None:
        """A line through values."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        dash = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
        self._parts.append(f'<path class="{kind} {mark.colour}" d="M{path}"{dash}/>')

    def plain(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A line that belongs to no artifact."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        self._parts.append(f'<path class="{kind}" d="M{path}"/>')

    def band(
        self, points: Sequence[tuple[float, float, float]], mark: Mark, *, kind: str = "band"
    ) -> None:
        """The area between two values of y for each x."""
        upper = [f"{self.x(x):.1f} {self.y(high):.1f}" for x, _, high in points]
        lower = [f"{self.x(x):.1f} {self.y(low):.1f}" for x, low, _ in reversed(points)]
        self._parts.append(f'<path class="{kind} {mark.colour}" d="M{"L".join(upper + lower)}Z"/>')

    def dot(self, x: float, y: float, mark: Mark, *, told: str = "", size: float = 1.0) -> None:
        """The mark of an artifact at a value; ``told`` shows where a pointer rests."""
        title = f"<title>{text(told)}</title>" if told else ""
        scale = f" scale({size:.2f})" if size != 1.0 else ""
        self._parts.append(
            f'<path class="fill dot {mark.colour}" transform="translate({self.x(x):.1f} '
            f'{self.y(y):.1f}){scale}" d="{mark.shape}">{title}</path>'
        )

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", kind: str = ""
    ) -> None:
        """Words at coordinates, not at values."""
        name = f' class="{kind}"' if kind else ""
        side = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text{name} x="{x:.1f}" y="{y:.1f}"{side}>{text(words)}</text>')

    def add(self, part: str) -> None:
        """SVG as it is, in coordinates."""
        self._parts.append(part)

    def svg(self, told: str) -> str:
        """The picture; ``told`` says in words what it shows, to who cannot see it."""
        return (
            f'<svg class="plot" role="img" aria-label="{text(told)}" '
            f'viewBox="0 0 {self.width:.0f} {self.height:.0f}">{"".join(self._parts)}</svg>'
        )


def _named(values: Iterable[float]) -> list[tuple[float, str]]:
    return [(value, nice(value)) for value in values]
