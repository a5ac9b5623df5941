"""Profiles by time: what became slower, and what had changed before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgekit.errors import ProfileError
from edgekit.profile.records import Profile
from edgekit.profile.store import folder_of, save
from edgekit.report import write_history
from edgekit.report.document import json_schema
from edgekit.report.history import history_document, history_page
from tests.report.documents import MACHINE, profile, result
from tests.report.test_report import _Page

OTHER = MACHINE.model_copy(update={"cpu": "Another CPU"})


def measured(day: int, median: float, openvino: str = "2025.1", **fields: Any) -> Profile:
    machine = fields.get("machine", MACHINE)
    own = {"run": f"run-{day}", "machine": machine}
    one = result("openvino-int8", median, seed=day, of_samples=own)
    created = f"2026-07-{day:02d}T08:00:00+00:00"
    versions = {"openvino": openvino}
    return profile(one, created=created, versions=versions, **fields)


STEADY = [measured(day, 1.0) for day in (1, 2, 3)]
SLOWER = [*STEADY, measured(4, 1.2, "2025.2"), measured(5, 1.2, "2025.2")]


def test_a_regression_is_told_with_what_changed_before() -> None:
    (told,) = history_document("m", SLOWER).sentences
    assert "openvino-int8 became 20% slower with the profile of 2026-07-04" in told
    assert "In between: 2026-07-04: openvino 2025.1 to 2025.2." in told


def test_what_became_faster_is_told_too() -> None:
    (told,) = history_document("m", [measured(1, 1.0), measured(2, 0.8)]).sentences
    assert "became 20% faster" in told


def test_steady_latencies_are_no_news() -> None:
    found = history_document("m", STEADY)
    assert found.sentences == ()
    assert found.events == ()
    assert "No latency changed by more than chance" in history_page(STEADY, found)


def test_another_machine_is_another_line_and_no_regression() -> None:
    profiles = [measured(1, 1.0), measured(2, 2.0, machine=OTHER), measured(3, 1.0)]
    found = history_document("m", profiles)
    assert found.sentences == ()
    assert [len(series.points) for series in found.series] == [2, 1]
    assert "another machine: Another CPU" in found.events[0]


def test_changes_are_numbered_lines_in_the_chart() -> None:
    page = history_page(SLOWER, history_document("m", SLOWER))
    assert page.count('class="change"') == 1
    assert page.count('<path class="band') == 1
    shown = _Page(page)
    assert shown.fetched == []
    assert "openvino 2025.1 to 2025.2" in shown.words


def test_artifacts_that_were_built_anew_are_told() -> None:
    hashes = [{"openvino-int8": digit * 64} for digit in "ab"]
    profiles = [measured(day, 1.0, artifacts=one) for day, one in enumerate(hashes, 1)]
    assert history_document("m", profiles).events == ("2026-07-02: built anew: openvino-int8",)


def test_the_profiles_beside_a_bundle_are_its_history(built: Path, bundle_copy: Path) -> None:
    folder = folder_of(bundle_copy)
    folder.mkdir()
    for index, one in enumerate(SLOWER):
        save(one, folder / f"{index}.json")
    for source in (bundle_copy, folder):
        write_history(source, bundle_copy.parent)
        document = json.loads((bundle_copy.parent / "report.json").read_text())
        jsonschema.Draft202012Validator(json_schema()).validate(document)
        assert document["kind"] == "history"
        assert len(document["series"][0]["points"]) == len(SLOWER)


def test_one_profile_is_a_history_too(tmp_path: Path) -> None:
    save(STEADY[0], tmp_path / "one.json")
    write_history(tmp_path, tmp_path)


def test_a_folder_without_profiles_is_one_line(tmp_path: Path, built: Path) -> None:
    with pytest.raises(ProfileError, match="holds no profiles"):
        write_history(tmp_path, tmp_path)
