"""Where the figures come from: machine, conditions, versions, notes, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from edgekit.machine import Machine
from edgekit.profile.records import Profile
from edgekit.profile.samples import Samples
from edgekit.report.markup import NONE, facts, folded, line, section, table, text, texts
from edgekit.report.sections.passes import recipe
from edgekit.report.table import validated_on
from edgekit.report.view import View

__all__ = ["commands", "machine", "machine_text", "notes", "reproduce"]


def machine(view: View) -> str:
    """The machine that built and the one that measured, versions and what else went on."""
    manifest, profile = view.manifest, view.profile
    pairs = [
        ("model", manifest.source or manifest.name),
        ("built", manifest.created),
        ("machine", machine_text(manifest.machine)),
        ("target", validated_on(manifest)[1] if manifest.target else ""),
        ("system", f"{manifest.machine.system}, Python {manifest.machine.python}"),
        ("versions", ", ".join(f"{name} {one}" for name, one in manifest.versions.items())),
    ]
    parts = [facts(pairs)]
    if profile is not None:
        parts.append(f"<h3>Where it was measured</h3>{facts(_measured(profile))}")
    conditions = [one for one in view.samples if one.conditions or one.warm_up]
    if conditions:
        heads = (
            "artifact", "#given to others", "#other processes", "#preempted/s", "#clock MHz",
            "#°C", "#throttled", "warm-up",
        )  # fmt: skip
        listed = table(heads, _conditions(conditions), caption="The machine while it was measured")
        parts.append(f"<h3>Conditions</h3>{listed}")
    return section("machine", "Machine and versions", *parts)


def machine_text(found: Machine) -> str:
    """A machine in a line."""
    features = f", {', '.join(found.features)}" if found.features else ""
    memory = f", {found.memory_bytes / 1e9:.0f} GB"
    return f"{found.cpu}, {found.cores} core{'' if found.cores == 1 else 's'}{features}{memory}"


def _measured(profile: Profile) -> Iterator[tuple[str, str]]:
    yield "measured", f"{profile.created} by edgekit {profile.edgekit}"
    yield "machine", machine_text(profile.machine)
    yield "system", f"{profile.machine.system}, Python {profile.machine.python}"
    yield "by ssh on", profile.remote or ""
    limits = profile.simulated
    if limits is not None:
        yield "limits", limits.label(profile.machine.cpu)
    yield "engines", ", ".join(f"{name} {one}" for name, one in profile.versions.items())
    if profile.peaks is not None:
        rates = [f"{name} {rate / 1e9:.4g} G op/s" for name, rate in profile.peaks.flops.items()]
        rates.append(f"memory {profile.peaks.bytes_per_s / 1e9:.3g} GB/s")
        yield "peaks, measured", f"{', '.join(rates)} with {profile.peaks.threads} threads"


def _conditions(samples: list[Samples]) -> Iterator[str]:
    for record in samples:
        found, warm = record.conditions, record.warm_up
        told = NONE
        if warm is not None:
            ended = "steady" if warm.steady else "not steady"
            told = f"{warm.calls} calls, {warm.seconds:.1f} s, {ended}"
        yield line(
            text(record.artifact),
            *(
                [NONE] * 6
                if found is None
                else [
                    _percent(found.steal),
                    _percent(found.others),
                    _number(found.preempted),
                    _span(found.mhz),
                    _span(found.celsius),
                    NONE if found.throttled is None else str(found.throttled),
                ]
            ),
            text(told),
        )


def notes(view: View) -> str:
    """What the bundle wants told beside its figures."""
    manifest = view.manifest
    told = list(manifest.notes)
    if manifest.accuracy:
        told.append(f"The original model's {view.metric} is {manifest.accuracy.reference:.4f}.")
    if view.samples:
        first = view.samples[0]
        told.append(
            f"Latencies are of {len(first.latencies_ns)} samples an artifact after {first.warmup} "
            "warm-up inferences each. The brackets are 95 % bootstrap intervals of the ratio of "
            "medians."
        )
    return section("notes", "Notes", texts(told))


def commands(view: View) -> list[str]:
    """What to type to get this bundle, its measurements and this page again."""
    manifest, profile = view.manifest, view.profile
    name = (manifest.recipe or {}).get("name", "")
    chosen = ["--recipe", str(name)] if name else []
    source = manifest.source or "MODEL"
    built = ["edgekit", "compress", source, *chosen, "-o", view.path]
    known = list(profile.command) if profile is not None and profile.command else []
    measured = known or ["edgekit", "profile", view.path]
    return [shlex.join(built), shlex.join(measured), shlex.join(["edgekit", "report", view.path])]


def reproduce(view: View) -> str:
    """Commands, recipe and hashes."""
    typed = text("\n".join(commands(view)))
    lines = [
        line(text(artifact.id), text(entry.path), f"{entry.size:,}", f"<code>{entry.sha256}</code>")
        for artifact in view.manifest.artifacts
        for entry in artifact.files
    ]
    hashes = table(
        ("artifact", "file", "#bytes", "sha256"), lines, caption="Files and their hashes"
    )
    return section(
        "reproduce",
        "How to reproduce",
        f'<pre tabindex="0">{typed}</pre>',
        folded(f"{len(lines)} files with their hashes", hashes),
        recipe(view),
    )


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"


def _span(pair: tuple[float, float] | None) -> str:
    return NONE if pair is None else f"{pair[0]:.0f} to {pair[1]:.0f}"
