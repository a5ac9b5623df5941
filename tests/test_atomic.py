from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import atomic
from edgekit.errors import OutputError


def _write(path: Path, text: str) -> None:
    with atomic.replaced_folder(path, expect="marker") as folder:
        (folder / "marker").write_text(text)


def _hidden(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    _write(tmp_path / "x", "one")
    assert (tmp_path / "x" / "marker").read_text() == "one"
    assert not _hidden(tmp_path)


def test_an_old_folder_is_replaced(tmp_path: Path) -> None:
    _write(tmp_path / "x", "one")
    _write(tmp_path / "x", "two")
    assert (tmp_path / "x" / "marker").read_text() == "two"
    assert not _hidden(tmp_path)


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    _write(tmp_path / "x", "one")

    def fail_half_way() -> None:
        with atomic.replaced_folder(tmp_path / "x", "marker") as folder:
            (folder / "marker").write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (tmp_path / "x" / "marker").read_text() == "one"
    assert not _hidden(tmp_path)


def test_without_an_exchange_system_call_it_takes_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_rename_exchange", lambda *_: False)
    _write(tmp_path / "x", "one")
    _write(tmp_path / "x", "two")
    assert (tmp_path / "x" / "marker").read_text() == "two"
    assert not _hidden(tmp_path)


def test_a_death_between_the_two_renames_is_recovered(tmp_path: Path) -> None:
    _write(tmp_path / "x", "one")
    (tmp_path / "x").rename(tmp_path / ".x.old")
    atomic.recover(tmp_path / "x")
    assert (tmp_path / "x" / "marker").read_text() == "one"


def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".x.new-{dead.pid}-abc").mkdir()
    (tmp_path / f".x.new-{os.getppid()}-abc").mkdir()
    _write(tmp_path / "x", "one")
    assert _hidden(tmp_path) == [f".x.new-{os.getppid()}-abc"]


def test_something_else_at_the_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="left alone"):
        _write(tmp_path / "x", "one")
    assert (tmp_path / "x" / "thesis.txt").read_text() == "mine"


def test_a_missing_parent_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        _write(tmp_path / "no" / "x", "one")


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    atomic.write_file(path, b"one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        atomic.write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
