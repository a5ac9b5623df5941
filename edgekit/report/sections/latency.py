"""Latencies: plots, a table of percentiles, other settings and scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.profile.records import Result
from edgekit.profile.samples import Samples
from edgekit.profile.stats import least_samples, summarize
from edgekit.report.figures import interval, interval_text
from edgekit.report.marks import legend
from edgekit.report.markup import NONE, code, columns, figure, line, missing, section, table, text
from edgekit.report.plots.latency import distributions, over_time, percentiles
from edgekit.report.settings import outcome_text, settings_text
from edgekit.report.view import View

__all__ = ["latency"]


def latency(view: View) -> str:
    """How long inferences take; says what would measure it where nobody did."""
    if not view.samples:
        return section("latency", "Latency", missing("Latency", view.measure))
    shown = [record.artifact for record in view.samples]
    key = legend(view.marks, shown)
    plots = columns(
        [
            figure(
                "How latencies are distributed",
                distributions(view.samples, view.marks),
                note="Under each hill: quartiles (thick), p1 to p99 (thin), ticks at the median "
                "and p90.",
            ),
            figure(
                "Percentiles",
                percentiles(view.samples, view.marks),
                legend=key,
                note="Each nine has the same width. A faint line has too few samples behind it.",
            ),
            figure(
                "Over the run",
                over_time(view.samples, view.marks),
                legend=key,
                note="Level lines: the machine kept its pace. Steps together: something else ran.",
            ),
        ]
    )
    return section(
        "latency", "Latency", _percentiles(view), plots, _others(view), lead=_conditions(view)
    )


def _conditions(view: View) -> str:
    first = view.samples[0]
    threads = first.threads or "the engine's choice of"
    told = (
        f"{text(first.call)}; {text(first.scenario)}, {threads} threads, {len(first.latencies_ns)} "
        f"samples an artifact, all in turns in one run of {text(first.started)}."
    )
    if view.profile is not None:
        return told
    return f"{told} Measured when the bundle was built; {code(view.measure)} measures the device."


def _percentiles(view: View) -> str:
    lines = [_line(view, record) for record in view.samples]
    rough = any(not summarize(record).p99_supported for record in view.samples)
    heads = (
        "artifact",
        "#samples",
        "#p50 ms",
        "95 % interval",
        "#p90",
        "#p99",
        "#lowest",
        "#highest",
        "against fp32",
    )
    note = (
        f'<p class="note">~ p99 from fewer than {least_samples(0.99)} samples: a rough value.</p>'
        if rough
        else ""
    )
    return table(heads, lines, caption="Latency by artifact, in milliseconds") + note


def _line(view: View, record: Samples) -> str:
    found = summarize(record)
    low, high = interval(record)
    row = next((row for row in view.rows if row.artifact.id == record.artifact), None)
    speed = row.speedup if row is not None else None
    against = (
        NONE
        if speed is None
        else (f"{speed.ratio:.2f}x <small>[{speed.low:.2f}, {speed.high:.2f}]</small>")
    )
    return line(
        text(record.artifact),
        str(found.count),
        f"{found.p50:.3f}",
        f"<small>{interval_text(low, high)}</small>",
        f"{found.p90:.3f}",
        f"{'' if found.p99_supported else '~'}{found.p99:.3f}",
        f"{found.lowest:.3f}",
        f"{found.highest:.3f}",
        against,
    )


def _others(view: View) -> str:
    """Sweeps and scenarios: what the table above is not."""
    outcomes = [one for one in view.profile.results if one.outcome] if view.profile else []
    settings = [one for one in view.others if one.outcome is None]
    parts = []
    if outcomes:
        heads = ("artifact", "scenario", "setting", "result", "#p50 ms", "#p99", "how it ended")
        body = table(heads, _scenarios(outcomes), caption="Scenarios, by MLPerf's rules")
        parts.append(f"<h3>Scenarios</h3>{body}")
    if settings:
        heads = (
            "artifact",
            "setting",
            "#samples",
            "#p50 ms",
            "95 % interval",
            "#p99",
            "#samples/s",
        )
        body = table(heads, _settings(settings), caption="Other settings that were measured")
        parts.append(f"<h3>Other settings</h3>{body}")
    return "".join(parts)


def _scenarios(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        found, outcome = summarize(result.samples), result.outcome
        assert outcome is not None
        ended = "valid" if outcome.valid else f"not valid: {'; '.join(outcome.reasons)}"
        yield line(
            text(result.samples.artifact),
            text(result.samples.scenario),
            text(settings_text(result)),
            f"<b>{text(outcome_text(outcome))}</b>",
            f"{found.p50:.3f}",
            f"{'' if found.p99_supported else '~'}{found.p99:.3f}",
            text(ended),
        )


def _settings(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        found = summarize(result.samples)
        low, high = interval(result.samples)
        rate = result.settings.batch * result.settings.streams * 1e3 / found.mean
        yield line(
            text(result.samples.artifact),
            text(settings_text(result)),
            str(found.count),
            f"{found.p50:.3f}",
            f"<small>{interval_text(low, high)}</small>",
            f"{'' if found.p99_supported else '~'}{found.p99:.3f}",
            f"{rate:.1f}",
        )
