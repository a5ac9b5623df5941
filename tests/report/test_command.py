"""``edgekit report`` as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgekit.bundle import Bundle
from edgekit.cli import app
from edgekit.errors import EdgekitError
from edgekit.profile.store import folder_of, save
from edgekit.report import FORMATS
from edgekit.report.document import json_schema
from tests.report.documents import profile_of
from tests.report.test_history import SLOWER


def called(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: object) -> str:
    with pytest.raises(EdgekitError) as raised:
        CliRunner().invoke(
            app, ["report", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
        )
    return str(raised.value)


def test_a_report_lies_beside_its_bundle_and_has_the_newest_profile(bundle_copy: Path) -> None:
    folder = folder_of(bundle_copy)
    folder.mkdir()
    measured = profile_of(Bundle.open(bundle_copy).manifest)
    save(measured, folder / "1.json")
    told = called(bundle_copy)
    written = bundle_copy.with_name("copy-report")
    assert str(written / "report.html") in told
    document = json.loads((written / "report.json").read_text())
    assert document["profile"]["created"] == measured.created
    assert {path.name for path in written.iterdir()} == {"report.html", "report.json"}


def test_all_writes_every_format(built: Path, tmp_path: Path) -> None:
    called(built, "--all", "-o", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FORMATS.values())


def test_two_bundles_are_compared(built: Path, bundle_copy: Path, tmp_path: Path) -> None:
    called(built, bundle_copy, "--format", "md", "-o", tmp_path / "both")
    assert "residual.edge → copy.edge" in (tmp_path / "both/report.md").read_text()


def test_a_bundle_is_compared_with_itself_under_two_names(built: Path, tmp_path: Path) -> None:
    called(built, built, "-o", tmp_path)
    names = json.loads((tmp_path / "report.json").read_text())["names"]
    assert names == ["residual.edge (1)", "residual.edge (2)"]


def test_history_of_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "profiles"
    source.mkdir()
    for index, one in enumerate(SLOWER):
        save(one, source / f"{index}.json")
    told = called("--history", source)
    assert str(tmp_path / "profiles-history" / "report.html") in told
    shutil.rmtree(source)


def test_the_schema_is_printed() -> None:
    assert json.loads(called("--schema")) == json_schema()


def test_what_cannot_be_is_one_line(built: Path, tmp_path: Path) -> None:
    assert "Give one bundle, or two to compare" in refused()
    assert "3 paths were given" in refused(built, built, built)
    assert "did you mean 'csv'" in refused(built, "--format", "cvs")
    assert "Give one for each, in order" in refused(built, built, "--profile", built)
    assert "--layers" in refused("--history", built, "--layers")
    assert "holds no profiles" in refused("--history", tmp_path)
    assert "cannot be read" in refused(built, "--profile", tmp_path / "no.json")
