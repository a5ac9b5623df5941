"""Every artifact against the original: the verification table."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.report.markup import NONE, line, section, table, text
from edgekit.report.sections.runtimes import score_text, speed_text, time_text
from edgekit.report.table import Row, extremes_text, size_text
from edgekit.report.view import View

__all__ = ["verification"]

#: A sign before each status, so that it is read without colour, too.
_SIGNS = {"selected": "✓", "rejected": "✗", "smaller": "○", "baseline": "="}


def verification(view: View) -> str:
    """One row an artifact with its fidelity to the original."""
    heads = (
        "artifact", "status", "#size", f"#{text(view.metric)}", "output", "#max abs", "#SQNR dB",
        "#cosine", "#argmax same", "#p50 ms", "#against plain ONNX Runtime fp32", "reason",
    )  # fmt: skip
    caption = "Every artifact: what it computes against the original, and what became of it"
    unrun = any(row.verification and not row.verification.ran for row in view.rows)
    note = (
        '<p class="note">Artifacts that were built, not run here, have no measured figures.</p>'
        if unrun
        else ""
    )
    body = table(heads, _lines(view), caption=caption)
    return section("verification", "Every artifact against the original", body, note)


def _lines(view: View) -> Iterator[str]:
    for row in view.rows:
        record = row.verification
        ran = record is not None and record.ran
        status = row.status if ran else f"{row.status}, built, not run here"
        sign = _SIGNS.get(row.status, "")
        extremes = extremes_text(record) if record else ""
        yield line(
            text(row.artifact.id),
            f'<span class="status {row.status}"><b aria-hidden="true">{sign}</b> {text(status)}'
            "</span>",
            size_text(row.artifact.size),
            score_text(row),
            *_fidelity(row),
            time_text(row.latency, "p50"),
            speed_text(row.speedup_plain),
            text(". ".join(filter(None, (row.reason, extremes)))),
            kind="chosen" if row.status == "selected" else "",
        )


def _fidelity(row: Row) -> list[str]:
    outputs = list(row.verification.outputs.items()) if row.verification else []
    return [
        "<br>".join(text(name) for name, _ in outputs),
        "<br>".join(f"{one.max_abs:.3g}" for _, one in outputs),
        "<br>".join(f"{one.sqnr_db:.1f}" for _, one in outputs),
        "<br>".join(f"{one.cosine:.5f}" for _, one in outputs),
        "<br>".join(_share(one.argmax_agreement) for _, one in outputs),
    ]


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
