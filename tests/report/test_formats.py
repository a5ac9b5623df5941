"""JSON with its schema, Markdown, CSV: the same figures as the page."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt

from edgekit.bundle import Bundle
from edgekit.errors import ProfileError, SpecError
from edgekit.manifest import Manifest
from edgekit.profile.records import Profile
from edgekit.profile.stats import summarize
from edgekit.profile.store import new_path, save
from edgekit.report import FORMATS, parse_formats, profile_for, write_report
from edgekit.report.document import json_schema, report_document
from edgekit.report.markdown import escape, markdown
from edgekit.report.spreadsheet import COLUMNS, spreadsheet
from edgekit.report.view import view_of
from tests.report.documents import profile_of

EVIL = "a|b\n<script>`*@someone"


@pytest.fixture
def measured(bundle: Bundle) -> Profile:
    return profile_of(bundle.manifest)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = (files("edgekit.report") / "report.schema.json").read_text("utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


def test_the_published_schema_is_that_of_the_documents(schema: dict[str, Any]) -> None:
    again = (
        "python -c 'import json; from edgekit.report.document import json_schema as s; "
        "print(json.dumps(s(), indent=1))' > edgekit/report/report.schema.json"
    )
    assert json_schema() == schema, f"records changed; write it again: {again}"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("profiled", [True, False])
def test_the_document_follows_the_schema(
    bundle: Bundle, measured: Profile, schema: dict[str, Any], tmp_path: Path, profiled: bool
) -> None:
    write_report(bundle, tmp_path, profile=measured if profiled else None, layers=True)
    document = json.loads((tmp_path / "report.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["schema_version"] == 1
    assert document["summary"]["ship"] in {row["artifact"] for row in document["table"]}
    assert (document["profile"] is not None) == profiled


def test_the_document_has_the_raw_samples_and_what_is_derived(
    bundle: Bundle, measured: Profile
) -> None:
    document = report_document(view_of(bundle.manifest, profile=measured))
    assert document.profile == measured
    assert len(document.results) == len(measured.results)
    for figures, result in zip(document.results, measured.results, strict=True):
        assert figures.latency.p50 == summarize(result.samples).p50
        low, high = figures.latency.p50_interval
        assert low <= figures.latency.p50 <= high


def test_the_csv_has_a_row_for_each_artifact_and_setting(bundle: Bundle, measured: Profile) -> None:
    read = list(
        csv.DictReader(io.StringIO(spreadsheet(view_of(bundle.manifest, profile=measured))))
    )
    assert len(read) == len(measured.results)
    assert tuple(read[0]) == COLUMNS
    for row, result in zip(read, measured.results, strict=True):
        assert row["artifact"] == result.samples.artifact
        assert float(row["p50_ms"]) == pytest.approx(summarize(result.samples).p50)
        assert row["threads"] == str(result.settings.threads)
    assert [row["value"] for row in read if row["scenario"] == "server"] == ["600.0"]


def test_the_csv_lists_what_was_not_measured_with_empty_cells(bundle: Bundle) -> None:
    bare = bundle.manifest.model_copy(update={"latency": ()})
    read = list(csv.DictReader(io.StringIO(spreadsheet(view_of(bare)))))
    assert {row["artifact"] for row in read} == {one.id for one in bare.artifacts}
    assert {row["p50_ms"] for row in read} == {""}


def test_a_spreadsheet_takes_no_cell_for_a_formula(bundle: Bundle) -> None:
    named = bundle.manifest.model_copy(update={"name": "=1+1"})
    assert "'=1+1," in spreadsheet(view_of(named))


def _parsed(text: str) -> Any:
    return MarkdownIt("commonmark").enable("table").parse(text)


def test_the_markdown_is_one_table_a_verdict_findings_and_folded_details(
    bundle: Bundle, measured: Profile
) -> None:
    text = markdown(view_of(bundle.manifest, profile=measured))
    head = text.split("<details>")[0]
    tokens = [token.type for token in _parsed(head)]
    assert tokens.count("table_open") == 1
    rows = tokens.count("tr_open") - 1
    assert rows == len(bundle.manifest.artifacts)
    assert "**Ship " in head
    assert "### Findings" in head
    assert text.count("<details>") == text.count("</details>") >= 3
    assert "edgekit profile residual.edge --seconds 20" in text


def test_markdown_without_a_profile_says_what_would_measure(bundle: Bundle) -> None:
    bare = bundle.manifest.model_copy(update={"latency": ()})
    text = markdown(view_of(bare, path="x.edge"))
    assert text.count("`edgekit profile x.edge`") == 2


def test_what_comes_from_the_bundle_stays_text_in_markdown(bundle: Bundle) -> None:
    manifest = bundle.manifest.model_copy(update={"name": EVIL})
    head = markdown(view_of(manifest)).splitlines()[0]
    assert "<script>" not in head.replace("\\<script\\>", "")
    inline = next(token for token in _parsed(head) if token.type == "inline")
    shown = "".join(child.content for child in inline.children)
    assert shown.replace("\u200b", "") == "edgekit: a|b <script>`*@someone"
    assert "@someone" not in escape("@someone")


def test_each_format_writes_its_file(bundle: Bundle, measured: Profile, tmp_path: Path) -> None:
    write_report(bundle, tmp_path, profile=measured, formats=tuple(FORMATS))
    assert {path.name for path in tmp_path.iterdir()} == set(FORMATS.values())


def test_html_and_json_are_always_written() -> None:
    assert parse_formats([]) == ("html", "json")
    assert parse_formats(["md, csv", "json"]) == ("html", "json", "md", "csv")
    with pytest.raises(SpecError, match="did you mean 'trace'"):
        parse_formats(["tace"])


def test_a_trace_of_nothing_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bare = Bundle(bundle.path, bundle.manifest.model_copy(update={"latency": ()}))
    with pytest.raises(ProfileError, match="nothing to trace"):
        write_report(bare, tmp_path, formats=("trace",))
    write_report(bundle, tmp_path, formats=("trace",))  # of what was measured when it was built


def test_the_newest_profile_beside_the_bundle_is_taken(
    bundle_copy: Path, measured: Profile
) -> None:
    bundle = Bundle.open(bundle_copy)
    assert profile_for(bundle) is None
    save(measured, new_path(bundle_copy))
    assert profile_for(bundle) == measured


def test_a_profile_of_other_files_is_refused(
    bundle: Bundle, measured: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    save(measured.model_copy(update={"artifacts": {"openvino-fp32": "0" * 64}}), path)
    with pytest.raises(ProfileError, match="another openvino-fp32 than this bundle holds"):
        profile_for(bundle, path)


def test_the_bundle_in_the_document_is_the_manifest(bundle: Bundle, tmp_path: Path) -> None:
    write_report(bundle, tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert Manifest.model_validate(document["bundle"]) == bundle.manifest
