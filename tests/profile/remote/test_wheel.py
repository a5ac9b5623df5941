from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from edgekit.profile.remote.wheel import Wheel, build_wheel

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return build_wheel()


def test_it_holds_every_package_and_what_they_read(wheel: Wheel) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        names = set(archive.namelist())
    for package in config["packages"]:
        assert f"{package.replace('.', '/')}/__init__.py" in names
    assert {"edgekit/compress/recipes/int8.yaml", "edgekit/py.typed"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".safetensors")]
    assert len(wheel.data) < 3_000_000


def test_its_record_is_right(wheel: Wheel) -> None:
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    [record] = [name for name in files if name.endswith(".dist-info/RECORD")]
    rows = {name: (digest, size) for name, digest, size in csv.reader(
        files[record].decode().splitlines())}  # fmt: skip
    assert rows.keys() == files.keys()
    for name, data in files.items():
        if name != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert rows[name] == (f"sha256={digest}", str(len(data)))


def test_the_same_code_gives_the_same_bytes(wheel: Wheel) -> None:
    assert build_wheel() == wheel


def test_it_needs_no_torch(wheel: Wheel) -> None:
    assert "onnxruntime" in wheel.requires
    assert "torch" not in wheel.requires
    assert wheel.python == (3, 11)


def test_what_is_unpacked_runs_and_finds_its_runtimes(wheel: Wheel, tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(wheel.data)).extractall(tmp_path)
    code = (
        "import edgekit.cli, edgekit.runtimes as r, edgekit.profile.probe as p\n"
        "print(edgekit.__file__, p.__file__, r.get('onnxruntime').name)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    own, probe, name = done.stdout.split()
    assert own.startswith(str(tmp_path))
    assert probe.startswith(str(tmp_path))
    assert name == "onnxruntime"


def test_pip_installs_it(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / wheel.name).write_bytes(wheel.data)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(tmp_path / "there")]
    subprocess.run([*command, str(tmp_path / wheel.name)], check=True)
    assert (tmp_path / "there/bin/edgekit").is_file()
