"""The figures of a bundle as rows: the one source of the terminal, the page and the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.manifest import Artifact, Decision, Extreme, Fidelity, Manifest, Verification
from edgekit.numerics import probe
from edgekit.profile.samples import Samples
from edgekit.profile.stats import Comparison, Summary, compare, summarize
from edgekit.report.latency import print_latency
from edgekit.report.passes import print_passes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Row",
    "extremes_text",
    "print_latency",
    "print_summary",
    "print_verification",
    "rows",
    "size_text",
    "validated_on",
]


_MARKS = {"selected": "[green]✓[/]", "baseline": "", "rejected": "[red]✗[/]", "smaller": "○"}


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact.

    Attributes:
        artifact: what it is.
        status: ``selected``, ``rejected``, ``baseline`` (kept to compare with) or ``smaller`` (the
            workload's smaller model, not in the bundle).
        reason: why, in words.
        verification: its comparison with the original, None when there was none.
        score: the workload's metric, None when it was not evaluated.
        latency: None when it was not measured.
        speedup: against the uncompressed artifact of the same runtime.
        speedup_plain: against the uncompressed artifact on ONNX Runtime, what a plain export gives.
    """

    artifact: Artifact
    status: str
    reason: str
    verification: Verification | None
    score: float | None
    latency: Summary | None
    speedup: Comparison | None
    speedup_plain: Comparison | None


def rows(manifest: Manifest) -> list[Row]:
    """One row an artifact, runtime by runtime, the fastest runtime first."""
    samples = {record.artifact: record for record in manifest.latency}
    return [
        _row(manifest, decision, artifact, samples)
        for decision in manifest.decisions
        for artifact in (*manifest.artifacts, *manifest.alternatives)
        if (artifact.runtime, artifact.target) == (decision.runtime, decision.target)
    ]


def validated_on(manifest: Manifest) -> tuple[str, str]:
    """The class of the machine that made the bundle, and what that says of its target in words.

    Both are empty for a bundle that does not say what it was made for.
    """
    if not manifest.target:
        return "", ""
    here = probe(manifest.machine.features).name
    if here == manifest.target:
        return here, f"{manifest.target}, validated on this class"
    return here, f"made for {manifest.target}, validated on {here}"


def _row(
    manifest: Manifest, decision: Decision, artifact: Artifact, samples: dict[str, Samples]
) -> Row:
    baseline = manifest.of(decision)[0].id
    own = samples.get(artifact.id)
    status, reason = "rejected", decision.rejected.get(artifact.id, "")
    if artifact.id == decision.selected:
        status, reason = "selected", decision.reason
    elif artifact.id == baseline:
        status = "baseline"
    elif artifact in manifest.alternatives:
        status = "smaller"
        reason = _against(manifest, artifact, decision.selected, samples)
    return Row(
        artifact=artifact,
        status=status,
        reason=reason,
        verification=next((v for v in manifest.verification if v.artifact == artifact.id), None),
        score=manifest.accuracy.artifacts.get(artifact.id) if manifest.accuracy else None,
        latency=summarize(own) if own else None,
        speedup=_compare(samples.get(baseline), own),
        speedup_plain=_compare(samples.get("onnxruntime-fp32"), own),
    )


def _against(
    manifest: Manifest, smaller: Artifact, selected: str, samples: dict[str, Samples]
) -> str:
    """The smaller model beside what was selected, in words."""
    told = []
    speed = _compare(samples.get(selected), samples.get(smaller.id))
    if speed is not None:
        told.append(f"{speed.ratio:.2f}x the speed of {selected}")
    accuracy = manifest.accuracy
    better = False
    if accuracy is not None:
        gain = accuracy.artifacts[smaller.id] - accuracy.artifacts[selected]
        told.append(f"{accuracy.metric} {gain:+.4f} against it")
        better = gain >= 0 if accuracy.higher_is_better else gain <= 0
    if better and speed is not None and speed.low > 1.0:
        told.append("better and faster: use the smaller model instead")
    return ", ".join(told)


def _compare(slow: Samples | None, fast: Samples | None) -> Comparison | None:
    if slow is None or fast is None or slow.artifact == fast.artifact:
        return None
    return compare(slow, fast)


def print_summary(manifest: Manifest, console: Console) -> None:
    """What came of a model, for a person at a terminal of 80 columns or more."""
    from rich.table import Table

    accuracy = manifest.accuracy
    metric = accuracy.metric.replace("_", " ") if accuracy else "metric"
    table = Table("", "artifact", metric, "size", "p50", "p90", "p99", "vs fp32", box=None)
    table.columns[1].no_wrap = table.columns[3].no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    if accuracy:
        table.add_row("", "the original", f"{accuracy.reference:.4f}")
    found = rows(manifest)
    for row in found:
        mark = _MARKS[row.status]
        table.add_row(mark, *_cells(row))
    console.print(table)
    if manifest.latency:
        console.print(
            f"Milliseconds for {manifest.latency[0].call}, all interleaved in one run; vs fp32 on "
            "that runtime.",
            style="dim",
            highlight=False,
            markup=False,
        )
    print_passes(manifest, console)
    here, told = validated_on(manifest)
    if here != manifest.target:
        console.print(f"{told[0].upper()}{told[1:]}.", highlight=False, markup=False)
    for row in found:
        if row.status != "baseline":
            status = "the smaller model" if row.status == "smaller" else row.status
            plain = f" ({_times(row.speedup_plain)} of a plain export)" if row.speedup_plain else ""
            console.print(
                f"{row.artifact.id}: {status}, {row.reason}{plain}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def print_verification(records: Sequence[Verification], console: Console) -> None:
    """How close each artifact is to the original."""
    from rich.markup import escape
    from rich.table import Table

    columns = ("artifact", "output", "max abs", "relative", "SQNR dB", "cosine", "argmax", "")
    table = Table(*columns, box=None)
    table.columns[0].no_wrap = True
    for record in records:
        verdict = "not run" if not record.ran else "ok" if record.passed else "FAILED"
        for name, result in record.outputs.items():
            agreement = result.argmax_agreement
            table.add_row(
                record.artifact,
                escape(name),
                *_figures([result]),
                "-" if agreement is None else f"{agreement:.1%}",
                verdict,
            )
        if not record.outputs:
            table.add_row(record.artifact, "", "", "", "", "", "", verdict)
        for kind, extreme in record.extremes.items():
            table.add_row("", *_extreme_cells(kind, extreme))
    console.print(table)
    for record in records:
        if record.reason:
            told = f"{record.artifact}: {record.reason}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)


def extremes_text(record: Verification) -> str:
    """What inputs unlike the data do to an artifact, in words; empty where none were tried."""
    if not record.extremes:
        return ""
    off = {kind: one.reason for kind, one in record.extremes.items() if one.reason}
    if not off:
        return f"as the original on {len(record.extremes)} inputs unlike the data, too"
    told = "; ".join(f"{kind}: {reason}" for kind, reason in off.items())
    return f"unlike the original on {len(off)} of {len(record.extremes)} extreme inputs ({told})"


def _extreme_cells(kind: str, extreme: Extreme) -> list[str]:
    """One row for all outputs: the worst of each figure."""
    verdict = "ok" if not extreme.reason else "FAILED" if extreme.gated else "off"
    found = list(extreme.outputs.values())
    return [f"  {kind}", *(_figures(found) if found else [""] * 4), "", verdict]


def _figures(found: Sequence[Fidelity]) -> list[str]:
    """The worst of each figure: absolute, relative, SQNR, cosine."""
    return [
        f"{max(one.max_abs for one in found):.3g}",
        f"{max(one.max_relative for one in found):.2g}",
        f"{min(one.sqnr_db for one in found):.1f}",
        f"{min(one.cosine for one in found):.5f}",
    ]


def _cells(row: Row) -> list[str]:
    latency = row.latency
    return [
        row.artifact.id,
        "-" if row.score is None else f"{row.score:.4f}",
        size_text(row.artifact.size),
        *(
            ["-"] * 3
            if latency is None
            else [f"{latency.p50:.3f}", f"{latency.p90:.3f}", _p99(latency)]
        ),
        _times(row.speedup),
    ]


def size_text(size: int) -> str:
    """Bytes for a person: decimal kilobytes or megabytes."""
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _p99(summary: Summary) -> str:
    return f"{'' if summary.p99_supported else '~'}{summary.p99:.3f}"


def _times(comparison: Comparison | None) -> str:
    return "-" if comparison is None else f"{comparison.ratio:.2f}x"
