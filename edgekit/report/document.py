"""``report.json``: what the page shows, for machines, with everything that it was derived from.

The schema is versioned: a field may be added within a version; when one changes or goes, the
version grows. ``report.schema.json`` in this package is the JSON Schema (draft 2020-12) of it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

import edgekit
from edgekit.manifest import Manifest, Verification
from edgekit.profile.diagnosis import Finding
from edgekit.profile.records import Profile, Result
from edgekit.profile.samples import Samples
from edgekit.profile.stats import Comparison, summarize
from edgekit.report.figures import interval
from edgekit.report.search import search_rows
from edgekit.report.table import Row, validated_on
from edgekit.report.verdict import verdict_of
from edgekit.report.view import View
from edgekit.timestamp import timestamp

__all__ = [
    "SCHEMA_VERSION",
    "Change",
    "ComparisonDocument",
    "FindingRecord",
    "HistoryDocument",
    "Latency",
    "Ratio",
    "ReportDocument",
    "Series",
    "SeriesPoint",
    "finding_record",
    "json_schema",
    "latency_record",
    "report_document",
]

SCHEMA_VERSION: Final = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class _Document(_Record):
    """What every kind says of itself.

    Attributes:
        created: UTC, ISO 8601.
        edgekit: version that wrote it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str = Field(default_factory=timestamp)
    edgekit: str = Field(default_factory=lambda: edgekit.__version__)


class Latency(_Record):
    """Milliseconds of one inference.

    Attributes:
        p50_interval: 95 % interval of the median.
        p99_supported: whether there are enough samples to speak of a 99th percentile.
    """

    count: int
    mean: float
    p50: float
    p50_interval: tuple[float, float]
    p90: float
    p99: float
    p99_supported: bool
    lowest: float
    highest: float


class Ratio(_Record):
    """How many times as fast, with its 95 % interval."""

    ratio: float
    low: float
    high: float


class TableRow(_Record):
    """One artifact, see :class:`~edgekit.report.table.Row`."""

    artifact: str
    runtime: str
    precision: str
    status: str
    reason: str
    size: int
    score: float | None
    verification: Verification | None
    latency: Latency | None
    speedup: Ratio | None
    speedup_plain: Ratio | None


class FindingRecord(_Record):
    """See :class:`~edgekit.profile.diagnosis.Finding`."""

    kind: str
    artifact: str
    sentence: str
    evidence: dict[str, str]
    advice: str
    doubt: bool


class SummaryRecord(_Record):
    """Which artifact to ship; empty where none was selected."""

    ship: str
    sentence: str
    verified: bool


class TargetRecord(_Record):
    """The instruction set that the bundle was made for and the one that it was validated on."""

    made_for: str
    validated_on: str
    told: str


class Measured(_Record):
    """Figures of one result of the profile; its raw samples are in ``profile``."""

    artifact: str
    scenario: str
    threads: int | None
    streams: int
    batch: int
    sizes: dict[str, int]
    device: str | None
    latency: Latency


class ReportDocument(_Document):
    """``report.json`` of one bundle.

    Attributes:
        table: what the page lists, one entry an artifact.
        results: everything that ``edgekit profile`` measured, derived.
        layers: selected artifacts beside uncompressed ones, where that was asked for.
        bundle: ``bundle.json`` with its raw samples.
        profile: the whole profile, raw; null where the bundle was not profiled.
    """

    kind: Literal["report"] = "report"
    name: str
    summary: SummaryRecord
    table: tuple[TableRow, ...]
    results: tuple[Measured, ...]
    findings: tuple[FindingRecord, ...]
    target: TargetRecord | None = None
    search: tuple[dict[str, Any], ...] = ()
    calibration: dict[str, Any] | None = None
    layers: tuple[dict[str, Any], ...] = ()
    bundle: Manifest
    profile: Profile | None = None


class Change(_Record):
    """One figure of two bundles.

    Attributes:
        what: such as ``p50 latency``.
        before: of the first, in words; empty where it has none.
        after: of the second.
        told: what became of it.
        verdict: ``better``, ``worse``, ``same`` or ``unknown``: nothing claims a difference that
            was not measured.
    """

    artifact: str
    what: str
    before: str
    after: str
    told: str
    verdict: Literal["better", "worse", "same", "unknown"]


class ComparisonDocument(_Document):
    """``report.json`` of two bundles."""

    kind: Literal["comparison"] = "comparison"
    names: tuple[str, str]
    sentence: str
    notes: tuple[str, ...]
    changes: tuple[Change, ...]
    profiles: tuple[Profile | None, Profile | None]


class SeriesPoint(_Record):
    """One artifact in one profile."""

    created: str
    latency: Latency
    versions: dict[str, str]


class Series(_Record):
    """One artifact under one setting on one machine, by time."""

    artifact: str
    setting: str
    machine: str
    points: tuple[SeriesPoint, ...]


class HistoryDocument(_Document):
    """``report.json`` of the profiles of one bundle by time."""

    kind: Literal["history"] = "history"
    name: str
    sentences: tuple[str, ...]
    events: tuple[str, ...]
    series: tuple[Series, ...]


_ANY: TypeAdapter[ReportDocument | ComparisonDocument | HistoryDocument] = TypeAdapter(
    Annotated[ReportDocument | ComparisonDocument | HistoryDocument, Field(discriminator="kind")]
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``report.json`` in all its kinds."""
    found = _ANY.json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgekit report.json, version {SCHEMA_VERSION}",
        **_with_infinity(found),
    }


def report_document(view: View) -> ReportDocument:
    """What the page of a view shows, as a document."""
    manifest = view.manifest
    verdict = verdict_of(view)
    target = None
    if manifest.target:
        here, told = validated_on(manifest)
        target = TargetRecord(made_for=manifest.target, validated_on=here, told=told)
    calibration = None
    if manifest.calibration:
        kept = ("observer", "samples", "cached")
        calibration = {k: v for k, v in manifest.calibration.items() if k in kept}
    results = view.profile.results if view.profile is not None else ()
    return ReportDocument(
        name=manifest.name,
        summary=SummaryRecord(
            ship=verdict.ship, sentence=verdict.sentence, verified=verdict.verified
        ),
        table=tuple(_row(view, row) for row in view.rows),
        results=tuple(_measured(result) for result in results),
        findings=tuple(finding_record(finding) for finding in view.findings),
        target=target,
        search=tuple(asdict(row) for row in search_rows(manifest)),
        calibration=calibration,
        layers=tuple(asdict(one) for one in view.noise),
        bundle=manifest,
        profile=view.profile,
    )


def latency_record(samples: Samples) -> Latency:
    """The figures of samples."""
    found = summarize(samples)
    return Latency(
        count=found.count,
        mean=found.mean,
        p50=found.p50,
        p50_interval=interval(samples),
        p90=found.p90,
        p99=found.p99,
        p99_supported=found.p99_supported,
        lowest=found.lowest,
        highest=found.highest,
    )


def finding_record(finding: Finding) -> FindingRecord:
    """A finding as a document."""
    return FindingRecord(**{**asdict(finding), "evidence": dict(finding.evidence)})


def _row(view: View, row: Row) -> TableRow:
    own = next((one for one in view.samples if one.artifact == row.artifact.id), None)
    return TableRow(
        artifact=row.artifact.id,
        runtime=row.artifact.runtime,
        precision=row.artifact.precision,
        status=row.status,
        reason=row.reason,
        size=row.artifact.size,
        score=row.score,
        verification=row.verification,
        latency=latency_record(own) if own is not None else None,
        speedup=_ratio(row.speedup),
        speedup_plain=_ratio(row.speedup_plain),
    )


def _ratio(found: Comparison | None) -> Ratio | None:
    return None if found is None else Ratio(ratio=found.ratio, low=found.low, high=found.high)


def _measured(result: Result) -> Measured:
    settings = result.settings
    return Measured(
        artifact=result.samples.artifact,
        scenario=result.samples.scenario,
        threads=settings.threads or result.samples.threads,
        streams=settings.streams,
        batch=settings.batch,
        sizes=settings.sizes,
        device=settings.device or result.samples.device,
        latency=latency_record(result.samples),
    )


def _with_infinity(schema: Any) -> Any:
    """Numbers may be infinite (the SQNR of an exact match); JSON writes them as strings."""
    if isinstance(schema, list):
        return [_with_infinity(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _with_infinity(value) for key, value in schema.items()}
    if made.get("type") == "number":
        rest = {key: made.pop(key) for key in ("title", "default", "description") if key in made}
        return {"anyOf": [made, {"enum": ["Infinity", "-Infinity", "NaN"]}], **rest}
    return made
