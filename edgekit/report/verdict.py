"""Which artifact to ship, and what that gains and costs, in one or two sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgekit.report.table import Row, size_text
from edgekit.report.view import View

__all__ = ["Verdict", "accuracy_change", "verdict_of"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Attributes:
        ship: id of the artifact; empty where nothing was selected.
        sentence: what to do and why.
        figures: name, value, what it is against, and ``good``, ``bad`` or nothing; four of them.
        verified: whether it was run and compared with the original, and passed.
    """

    ship: str
    sentence: str
    figures: tuple[tuple[str, str, str, str], ...]
    verified: bool


def verdict_of(view: View) -> Verdict:
    """The fastest of the selected artifacts, by the newest measurement that there is."""
    if not view.manifest.decisions:
        told = "Nothing was selected: the bundle holds no artifact to ship."
        return Verdict("", told, (), verified=False)
    row = _shipped(view)
    original = view.row(
        next(
            view.manifest.of(decision)[0].id
            for decision in view.manifest.decisions
            if decision.selected == row.artifact.id
        )
    )
    verified, told = _verified(row)
    return Verdict(
        row.artifact.id,
        _sentence(view, row, original, told),
        tuple(_figures(view, row, original, verified=verified)),
        verified,
    )


def accuracy_change(view: View, row: Row) -> float | None:
    """What an artifact gains (above 0) or loses, whichever way the metric counts."""
    accuracy = view.manifest.accuracy
    if accuracy is None or row.score is None:
        return None
    change = row.score - accuracy.reference
    return change if accuracy.higher_is_better else -change


def _shipped(view: View) -> Row:
    selected = [view.row(decision.selected) for decision in view.manifest.decisions]
    timed = [row for row in selected if row.latency is not None]
    if not timed:
        return selected[0]  # the fastest when the bundle was built comes first
    return min(timed, key=lambda row: row.latency.p50 if row.latency else 0.0)


def _sentence(view: View, row: Row, original: Row, verified: str) -> str:
    where = f" on {row.artifact.target}" if row.artifact.target else ""
    told = [f"Ship {row.artifact.id}{where}"]
    gains = []
    if row is original:
        told[0] += (
            ": the uncompressed model, because nothing smaller was measurably faster and kept its "
            "accuracy"
        )
    elif row.speedup is not None:
        speed = row.speedup
        sure = speed.verdict == "faster"
        gains.append(
            f"{speed.ratio:.2f} times as fast as the uncompressed model (95 % interval "
            f"{speed.low:.2f} to {speed.high:.2f})"
            if sure
            else "as fast as the uncompressed model within what could be measured"
        )
    if row is not original and row.artifact.size < original.artifact.size:
        gains.append(f"{original.artifact.size / row.artifact.size:.1f} times smaller")
    change = accuracy_change(view, row)
    accuracy = view.manifest.accuracy
    if change is not None and accuracy is not None and row.score is not None:
        kept = f"{view.metric} {row.score:.4f} where the original has {accuracy.reference:.4f}"
        gains.append(kept if change else f"with the original's {view.metric} of {row.score:.4f}")
    return ": ".join([*told, ", ".join(gains)] if gains else told) + f". {verified}"


def _verified(row: Row) -> tuple[bool, str]:
    record = row.verification
    if record is None:
        return False, "It was not compared with the original."
    if not record.ran:
        return False, "It was not run here; the graph it was built from agrees with the original."
    if not record.passed:
        return False, f"It is not verified: {record.reason}."
    told = f"Verified against the PyTorch original on {record.samples} samples"
    if record.extremes:
        agree = sum(1 for one in record.extremes.values() if not one.reason)
        told += f" and {agree} of {len(record.extremes)} inputs unlike the data"
    return True, f"{told}."


def _figures(
    view: View, row: Row, original: Row, *, verified: bool
) -> Iterator[tuple[str, str, str, str]]:
    latency = row.latency
    if latency is None:
        yield ("Typical latency", "not measured", view.measure, "")
    else:
        speed = row.speedup
        told = f"p99 {'' if latency.p99_supported else '~'}{latency.p99:.3g} ms"
        if speed is not None:
            told = f"{speed.ratio:.2f}x the uncompressed, {told}"
        mood = "good" if speed is not None and speed.verdict == "faster" else ""
        yield ("Typical latency", f"{latency.p50:.3g} ms", told, mood)
    ratio = original.artifact.size / row.artifact.size
    told = f"{ratio:.1f}x smaller, was {size_text(original.artifact.size)}"
    same = row is original or ratio <= 1.0
    yield (
        "Size",
        size_text(row.artifact.size),
        "uncompressed" if same else told,
        "" if same else "good",
    )
    change, accuracy = accuracy_change(view, row), view.manifest.accuracy
    if change is None or accuracy is None or row.score is None:
        fidelity = row.verification.outputs.values() if row.verification else ()
        worst = min((one.sqnr_db for one in fidelity), default=None)
        shown = "-" if worst is None else "exact" if worst == float("inf") else f"{worst:.1f} dB"
        yield ("Closeness", shown, "signal to noise against the original", "")
    else:
        inside = change >= -accuracy.max_drop
        told = f"{row.score - accuracy.reference:+.4f}, budget {accuracy.max_drop:g}"
        yield (view.metric.capitalize(), f"{row.score:.4f}", told, "good" if inside else "bad")
    record = row.verification
    told = "outputs agree with the original" if verified else "see the verification table"
    if record is not None and not record.ran:
        told = "built, not run on this machine"
    yield ("Verified", "yes" if verified else "no", told, "good" if verified else "bad")
