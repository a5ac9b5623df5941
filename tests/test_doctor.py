from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import doctor
from edgekit.doctor import diagnose
from edgekit.machine import this_machine
from edgekit.numerics import parse_target


def test_this_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.memory_bytes > 2**28


def test_the_target_is_one_that_compress_takes() -> None:
    assert parse_target(diagnose().target).runs_on(this_machine().features)


def test_features_are_those_of_the_kernel() -> None:
    flags = Path("/proc/cpuinfo").read_text()
    assert ("AVX512-VNNI" in this_machine().features) == ("avx512_vnni" in flags)
    assert ("AVX2" in this_machine().features) == ("avx2" in flags)


def test_runtimes_and_builders_are_listed_with_versions() -> None:
    parts = {part.package: part for part in diagnose().parts}
    for package in ("onnxruntime", "openvino", "torch", "tensorrt-rtx", "fastapi"):
        assert parts[package].usable
        assert parts[package].version


def test_what_is_missing_has_a_reason_and_an_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for part in diagnose().parts:
        if not part.package.startswith("onnxruntime"):
            assert not part.usable
            assert "not installed" in part.reason
            assert part.install.startswith("pip install")


@pytest.mark.parametrize(
    ("features", "word"),
    [
        (("AVX2", "AVX512-VNNI"), "VNNI:"),
        (("AMX-INT8", "AVX512-VNNI"), "AMX:"),
        (("NEON", "NEON dot product"), "Dot-product"),
        (("AVX2",), "saturate"),
        ((), "No int8"),
    ],
)
def test_int8_advice_follows_the_instruction_sets(features: tuple[str, ...], word: str) -> None:
    assert doctor._int8(features).startswith(word) or word in doctor._int8(features)


def test_an_nvidia_gpu_is_read_from_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 8.9, 550.1, 24564 MiB'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert any("RTX 4090, 8.9" in gpu for gpu in diagnose().gpus)


def test_it_imports_no_engine() -> None:
    code = (
        "import sys; from edgekit.doctor import diagnose; diagnose();"
        "print([m for m in ('torch', 'matplotlib', 'tensorrt_rtx', 'fastapi') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_install_command_is_printed_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.cli.doctor import doctor as command

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("COLUMNS", "200")
    command(json=False)
    assert "pip install 'edgekit[torch]'" in capsys.readouterr().out
