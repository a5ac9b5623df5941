from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import BundleError
from edgekit.serve.folder import scan, version_order


def _bundle(folder: Path) -> Path:
    """As much of a bundle as makes it be found."""
    folder.mkdir(parents=True)
    (folder / "bundle.json.sha256").write_text("0  bundle.json\n")
    return folder


def _versions(root: Path) -> dict[str, list[str]]:
    return {name: list(found) for name, found in scan(root).items()}


def test_every_layout_is_found(tmp_path: Path) -> None:
    for path in ("a.edge", "b", "c/1", "c/2.edge", "c/10", "d.edge"):
        _bundle(tmp_path / path)
    assert _versions(tmp_path) == {"a": ["1"], "b": ["1"], "c": ["1", "2", "10"], "d": ["1"]}


def test_ensembles_come_last(tmp_path: Path) -> None:
    (tmp_path / "a.ensemble.yaml").write_text("steps:")
    _bundle(tmp_path / "z.edge")
    found = scan(tmp_path)
    assert list(found) == ["z", "a"]
    assert found["a"]["1"].is_ensemble
    assert not found["z"]["1"].is_ensemble


def test_what_is_not_whole_hidden_or_no_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "half.edge").mkdir()
    (tmp_path / "half.edge" / "bundle.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.edge").write_text("")
    (tmp_path / "folder.ensemble.yaml").mkdir()
    _bundle(tmp_path / ".hidden.edge")
    _bundle(tmp_path / ".a.edge.new-1-x")
    _bundle(tmp_path / "name with spaces.edge")
    _bundle(tmp_path / "two..dots")
    (tmp_path / "latin.ensemble.yaml").write_bytes(b"\xff\xfe")
    assert _versions(tmp_path) == {}


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    _bundle(tmp_path / "outside" / "secret")
    (tmp_path / "outside" / "e.yaml").write_text("steps:")
    root = tmp_path / "models"
    _bundle(root / "a" / "1")
    (root / "b").symlink_to(tmp_path / "outside" / "secret")
    (root / "a" / "2").symlink_to(tmp_path / "outside" / "secret")
    (root / "c").symlink_to(tmp_path / "outside")
    (root / "e.ensemble.yaml").symlink_to(tmp_path / "outside" / "e.yaml")
    (root / "loop").symlink_to(root / "loop")
    (root / "gone").symlink_to(root / "nowhere")
    (root / "a" / "3").symlink_to(root / "a" / "1")
    assert _versions(root) == {"a": ["1", "3"]}


def test_a_replaced_bundle_has_another_fingerprint(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "a.edge")
    before = scan(tmp_path)
    assert scan(tmp_path) == before
    (bundle / "bundle.json.sha256").write_text("1  bundle.json\n")
    assert scan(tmp_path) != before


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: cannot be read: No such file"):
        scan(tmp_path / "nowhere")


def test_versions_are_ordered_as_numbers() -> None:
    names = ["10", "9", "1.10", "1.9", "1.9-rc", "v2", "1"]
    assert sorted(names, key=version_order) == ["v2", "1", "1.9", "1.9-rc", "1.10", "9", "10"]
