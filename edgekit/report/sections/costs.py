"""What an artifact takes beside its latency: memory, loading, processor time, energy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgekit.profile.records import Costs, Result
from edgekit.report.markup import NONE, columns, figure, line, missing, section, table, text
from edgekit.report.plots.tradeoff import Bar, bars
from edgekit.report.table import size_text
from edgekit.report.view import View

__all__ = ["costs"]


def costs(view: View) -> str:
    """Memory and start-up of each artifact in a fresh process."""
    found = [one for one in (view.profile.results if view.profile else ()) if one.costs is not None]
    kept = list({one.samples.artifact: one for one in reversed(found)}.values())[::-1]
    if not kept:
        return section("memory", "Memory and start", missing("Memory and start-up", view.measure))
    lead = "Each artifact alone in a fresh process, above what the same process held before."
    return section("memory", "Memory and start", _plots(view, kept), _table(kept), lead=lead)


def _plots(view: View, results: Sequence[Result]) -> str:
    memory = [
        Bar(
            one.samples.artifact,
            costs.steady_bytes / 1e6,
            f"{costs.steady_bytes / 1e6:.0f}, peak {costs.peak_bytes / 1e6:.0f}",
            extra=max(costs.peak_bytes - costs.steady_bytes, 0) / 1e6,
            strong=True,
        )
        for one, costs in _known(results)
    ]
    start = [
        Bar(one.samples.artifact, ms, f"{ms:.0f} ms", strong=True)
        for one, costs in _known(results)
        if (ms := _median(costs.cold_start_s) * 1e3) > 0
    ]
    figures = [
        figure(
            "Memory",
            bars(
                memory, view.marks, label="MB steady (full), then the most ever held", told="Memory"
            ),
        )
    ]
    if start:
        label = "ms from the start of the process to the first answer"
        figures.append(
            figure("Cold start", bars(start, view.marks, label=label, told="Cold start"))
        )
    return columns(figures)


def _table(results: Sequence[Result]) -> str:
    heads = (
        "artifact", "#load ms", "#first ms", "#cold start ms", "#steady", "#peak",
        "#process before", "#CPU ms each", "#energy", "#on disk",
    )  # fmt: skip
    missing_energy = {costs.energy_missing for _, costs in _known(results) if costs.energy_missing}
    told = "".join(f'<p class="note">Energy: {text(reason)}.</p>' for reason in missing_energy)
    return table(heads, _lines(results), caption="What each artifact takes") + told


def _lines(results: Sequence[Result]) -> Iterator[str]:
    for one, costs in _known(results):
        energy = costs.energy
        yield line(
            text(one.samples.artifact),
            _ms(costs.load_s),
            _ms(costs.first_s),
            _ms(costs.cold_start_s),
            size_text(costs.steady_bytes),
            size_text(costs.peak_bytes),
            size_text(costs.base_bytes),
            f"{costs.cpu_s * 1e3:.3f}",
            NONE if energy is None else f"{energy.joules * 1e3:.3g} mJ",
            size_text(costs.disk_bytes),
        )


def _known(results: Sequence[Result]) -> Iterator[tuple[Result, Costs]]:
    for one in results:
        if one.costs is not None:
            yield one, one.costs


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _ms(values: Sequence[float]) -> str:
    return f"{_median(values) * 1e3:.1f}" if values else NONE
