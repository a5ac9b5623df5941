from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgekit.report.marks import legend, marks_of
from edgekit.report.plots.latency import distributions, over_time, percentiles
from edgekit.report.plots.tradeoff import Bar, Point, bars, front, pareto
from edgekit.report.svg import Plot, Scale, spread
from tests.report.documents import samples


def parsed(svg: str) -> ET.Element:
    """The picture as XML; fails where it is not well-formed."""
    return ET.fromstring(svg)  # noqa: S314, written here


POSITIVE = st.floats(1e-6, 1e9, allow_nan=False)


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.booleans())
@example([999999999.984375], True)
def test_a_scale_shows_every_value_and_has_ticks_inside(values: list[float], log: bool) -> None:
    scale = spread(values, log=log).within(10, 20)
    assert all(9.999 <= scale(value) <= 20.001 for value in values)
    ticks = scale.ticks(6)
    assert 1 <= len(ticks) <= 9
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_a_plot_is_well_formed_and_escapes_names() -> None:
    evil = '<script>&"'
    plot = Plot(Scale(0, 1), Scale(0, 1))
    plot.axes(evil, evil)
    plot.dot(0.5, 0.5, marks_of([evil])[evil], told=evil)
    svg = parsed(plot.svg(evil))
    assert svg.attrib["aria-label"] == evil
    assert svg.attrib["role"] == "img"
    parsed(legend(marks_of([evil]), [evil]))


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=200), st.integers(1, 8))
def test_latency_plots_draw_any_samples(values: list[int], block: int) -> None:
    record = samples("onnxruntime-fp32", values, block=block)
    for closed in (record, record.model_copy(update={"starts_ns": ()})):
        for draw in (distributions, percentiles, over_time):
            drawn = draw([closed], marks_of([closed.artifact]))
            assert "nan" not in drawn
            parsed(drawn)


def test_marks_differ_in_colour_shape_and_dash() -> None:
    marks = list(marks_of(f"artifact-{index}" for index in range(40)).values())
    looks = {(mark.colour, mark.shape, mark.dash) for mark in marks}
    assert len(looks) == len(marks)
    first = marks[:6]
    for look in ("colour", "shape", "dash"):
        assert len({getattr(mark, look) for mark in first}) == len(first)


@pytest.mark.parametrize(
    ("higher", "kept"), [(True, ["fast", "middle", "best"]), (False, ["fast", "low"])]
)
def test_the_front_holds_what_nothing_beats_in_both(higher: bool, kept: list[str]) -> None:
    points = [
        Point("best", 3.0, 0.95, selected=False),
        Point("fast", 1.0, 0.8, selected=True),
        Point("beaten", 3.5, 0.9, selected=False),
        Point("middle", 2.0, 0.9, selected=False),
        Point("low", 2.5, 0.7, selected=False),
    ]
    assert [one.artifact for one in front(points, higher=higher)] == kept
    marks = marks_of(point.artifact for point in points)
    drawn = pareto(points, marks, metric="accuracy", higher=higher, floor=0.85)
    assert drawn.count('class="ring"') == 1
    parsed(drawn)


def test_bars_grow_with_their_values() -> None:
    marks = marks_of(["a", "b"])
    drawn = bars([Bar("a", 1, "1"), Bar("b", 2, "2", extra=1)], marks, label="MB", told="Size")
    root = parsed(drawn)
    widths = [float(rect.attrib["width"]) for rect in root.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.02)
    assert widths[2] == pytest.approx(widths[0], rel=0.02)
