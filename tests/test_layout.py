"""The structure that the design promises, held by tests."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("exporters", "runtimes", "calibration")


@pytest.fixture(scope="module")
def installed_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package linked the way it installs: import-linter follows folders."""
    package = tmp_path_factory.mktemp("tree") / "edgekit"
    package.mkdir()
    for entry in (ROOT / "edgekit").iterdir():
        (package / entry.name).symlink_to(entry)
    for stage in STAGES:
        (package / stage).symlink_to(ROOT / stage)
    return package.parent


def test_imports_point_one_way(installed_tree: Path) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "lint-imports"),
            "--no-cache",
            f"--config={ROOT / '.importlinter'}",
        ],
        cwd=installed_tree,
        env={**os.environ, "PYTHONPATH": str(installed_tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    contracts = [name for name in config.sections() if name.startswith("importlinter:contract")]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


def test_every_package_is_listed_for_installation() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(config["tool"]["setuptools"]["packages"])
    folders = [
        path.parent.relative_to(ROOT)
        for root in ("edgekit", *STAGES)
        for path in ROOT.glob(f"{root}/**/__init__.py")
    ]
    found = {".".join(folder.parts) for folder in folders}
    assert listed == {name if name.startswith("edgekit") else f"edgekit.{name}" for name in found}


@pytest.mark.parametrize("command", ["serve", "profile", "verify", "report"])
def test_commands_for_the_device_import_no_torch(command: str, built: Path, tmp_path: Path) -> None:
    arguments = {
        "serve": ["serve", str(built), "--port", "70000"],  # refused after everything is imported
        "profile": ["profile", str(built), "--seconds", "0.1"],
        "verify": ["verify", str(built)],
        "report": ["report", str(built), "-o", str(tmp_path)],
    }[command]
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'CLEAN'))\n"
        f"sys.argv = ['edgekit', *{arguments!r}]\n"
        "import edgekit.serve.server\n"
        "from edgekit.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("CLEAN"), done.stdout + done.stderr


def test_help_of_serve_imports_neither_torch_nor_an_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgekit", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edgekit.cli" in imported
    assert not imported & {"torch", "numpy", "onnx", "onnxruntime", "openvino", "rich"}


def test_files_and_functions_stay_readable() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {count}"
        for folder in ("edgekit", *STAGES, "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    ]
    assert long == []
