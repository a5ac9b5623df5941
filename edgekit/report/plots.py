"""Plots as inline SVG. Colours are CSS classes of the page, so that dark mode reaches them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgekit.profile.samples import Samples
from edgekit.report.table import Row

__all__ = ["latency_distribution", "latency_over_time", "sizes"]

#: Okabe and Ito's palette: told apart with any colour vision, on white and on black.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
_INK = "#808080"


def latency_distribution(samples: Sequence[Samples]) -> str:
    """For each artifact the share of inferences that were done within a time."""
    figure, axes = _figure(3.4)
    for colour, record in zip(_cycle(samples), samples, strict=True):
        values = np.sort(np.asarray(record.latencies_ns)) / 1e6
        share = np.arange(1, values.size + 1) / values.size * 100
        axes.step(values, share, where="post", color=colour, label=record.artifact, linewidth=1.6)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.set_xlabel("latency in ms (log scale)")
    axes.set_ylabel("% of inferences done")
    axes.set_ylim(0, 101)
    _legend(axes)
    return _svg(figure)


def latency_over_time(samples: Sequence[Samples]) -> str:
    """The median of each round in the order they ran: drift, throttling and disturbance show."""
    figure, axes = _figure(2.8)
    for colour, record in zip(_cycle(samples), samples, strict=True):
        rounds = np.median(np.reshape(record.latencies_ns, (-1, record.block)), axis=1) / 1e6
        axes.plot(rounds, color=colour, label=record.artifact, linewidth=0.9)
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_xlabel("round")
    axes.set_ylabel("median latency in ms")
    return _svg(figure)


def sizes(rows: Sequence[Row]) -> str:
    """Bytes of each artifact."""
    figure, axes = _figure(0.7 + 0.3 * len(rows))
    names = [row.artifact.id for row in rows]
    values = [row.artifact.size / 1e6 for row in rows]
    colours = [_COLOURS[2] if row.status == "selected" else _INK for row in rows]
    bars = axes.barh(names, values, color=colours, height=0.6)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=4, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.12)
    axes.set_xlabel("size in MB (green: selected)")
    return _svg(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, color=_INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, which="both", labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _plain_ticks(axis: Axis) -> None:
    """1, 2, 5 instead of powers of ten: latencies seldom span more than one or two of them."""
    axis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(mpl.ticker.NullFormatter())


def _legend(axes: Axes) -> None:
    legend = axes.legend(frameon=False, fontsize=9, loc="lower right")
    for text in legend.get_texts():
        text.set_color(_INK)


def _cycle(samples: Sequence[Samples]) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(len(samples))]


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element, text as text, without a date or random ids."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgekit"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
