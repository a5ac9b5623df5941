"""A bundle in one file: whole or refused, small, and the same bytes each time."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, OutputError
from edgekit.packing import pack, unpack


@pytest.fixture
def packed(bundle: Bundle, tmp_path: Path) -> Path:
    out = tmp_path / "residual.edge.tar.zst"
    pack(bundle, out)
    return out


def _contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_what_comes_out_is_what_went_in(bundle: Bundle, packed: Path, tmp_path: Path) -> None:
    made = unpack(packed, tmp_path / "out.edge")
    assert made.manifest == bundle.manifest
    assert _contents(made.path) == _contents(bundle.path)


def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, packed: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / "copy.edge"
    shutil.copytree(bundle.path, copied)
    pack(Bundle.open(copied), tmp_path / "again.tar.zst")
    assert (tmp_path / "again.tar.zst").read_bytes() == packed.read_bytes()


def test_weights_of_several_artifacts_are_stored_once(tmp_path: Path, bundle_copy: Path) -> None:
    """Far apart, too: beyond the window that zstd looks at by itself on this level."""
    opened = Bundle.open(bundle_copy)
    pack(opened, tmp_path / "once.tar.zst")
    noise = os.urandom(12_000_000)
    for name in ("a", "z"):
        (bundle_copy / name).write_bytes(noise)
    pack(opened, tmp_path / "twice.tar.zst")
    grown = (tmp_path / "twice.tar.zst").stat().st_size - (tmp_path / "once.tar.zst").stat().st_size
    assert len(noise) < grown < 1.01 * len(noise)


def test_plain_tar_reads_it(packed: Path, bundle: Bundle, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tar"
    with packed.open("rb") as source, plain.open("wb") as target:
        zstandard.ZstdDecompressor().copy_stream(source, target)
    (tmp_path / "out").mkdir()
    program = shutil.which("tar")
    assert program
    subprocess.run([program, "-xf", plain, "-C", tmp_path / "out"], check=True)
    assert _contents(tmp_path / "out") == _contents(bundle.path)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_what_is_damaged_is_refused_and_the_old_bundle_stays(
    packed: Path, tmp_path: Path, at: float
) -> None:
    out = unpack(packed, tmp_path / "out.edge").path
    before = _contents(out)
    good = packed.read_bytes()
    place = int(len(good) * at)
    for bad in (good[:place], good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]):
        packed.write_bytes(bad)
        with pytest.raises(BundleError) as caught:
            unpack(packed, out)
        assert "\n" not in str(caught.value)
        assert _contents(out) == before
        assert not list(tmp_path.glob(".out.edge*"))


def test_what_is_no_packed_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar.zst").write_text("text")
    with pytest.raises(BundleError, match=r"text\.tar\.zst: is not a packed bundle"):
        unpack(tmp_path / "text.tar.zst", tmp_path / "out.edge")
    with pytest.raises(BundleError, match="no such file"):
        unpack(tmp_path / "none.tar.zst", tmp_path / "out.edge")
    assert not (tmp_path / "out.edge").exists()


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "bad.tar.zst").write_bytes(zstandard.compress(stream.getvalue()))
    with pytest.raises(BundleError, match="outside"):
        unpack(tmp_path / "bad.tar.zst", inner / "out.edge")
    assert not (tmp_path / "outside").exists()


def test_a_folder_that_is_no_bundle_is_left_alone(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="left alone"):
        unpack(packed, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
