"""Every command as a user types it: exit codes, one-line errors, JSON, help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.bundle import Bundle, hash_file, seal
from tests.conftest import ARTIFACTS, batches

EDGEKIT = [sys.executable, "-m", "edgekit"]

USER = """
import numpy as np, torch
from torch import nn
from edgekit.workload import Metric, Workload

class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

def base(**changes):
    def calibration():
        yield {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    settings = dict(
        name="user", model=nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
        example_inputs={"x": torch.zeros(1, 4)}, calibration=calibration,
    )
    return Workload(**(settings | changes))

def good(): return base()
def raising(): raise KeyError("boom")
def wrong_shape(): return base(example_inputs={"x": torch.zeros(1, 5)})
def nan(): return base(calibration=lambda: [{"x": np.full((2, 4), np.nan, np.float32)}])
def empty(): return base(calibration=lambda: [])
def exact(): return base(model=nn.ReLU())
def unsupported(): return base(model=nn.Sequential(nn.Linear(4, 4), Bessel()))
"""


def run(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*EDGEKIT, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "bad.yaml").write_text("name: x\npasses: [{type: int8-ptq, observr: min-max}]\n")
    (tmp_path / "readonly").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py:f"], "missing.py: no such file"),
        (["missing.onnx"], "missing.onnx: no such file"),
        (["user.py:godo"], "did you mean 'good'"),
        (["user.py:raising"], "the factory raised KeyError: 'boom'"),
        (["user.py:wrong_shape"], "forward raised RuntimeError"),
        (["user.py:nan"], "'x' has 8 NaN or infinite values"),
        (["user.py:empty"], "calibration set is empty"),
        (["user.py:unsupported"], "module 1 (Bessel): operator aten.special_bessel_j0 has no ONNX"),
        (["user.py:good", "--recipe", "bad.yaml"], "did you mean 'observer'"),
        (["user.py:good", "--recipe", "int9"], "did you mean 'int8'"),
        (["user.py:good", "--runtime", "openvin"], "did you mean 'openvino'"),
        (["user.py:good", "--gpu", "sm98"], "did you mean 'sm89'"),
        (["user.py:good", "--opset", "99"], "operator set 99 is not one that"),
        (["user.py:good", "--gpu", "sm89,sm120", "--range", "batch=4"], "batch=1:4:16, say"),
        (["user.py:good", "-o", "no/such/folder/x.edge"], "cannot be written"),
        (["user.py:good", "-o", "readonly"], "left alone"),
        (["weights.pth"], "weights_only=True"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = run("compress", *arguments, cwd=folder, code=2)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(errors) == 1, done.stderr
    assert message in errors[0]
    assert not list(folder.glob("*.edge"))
    assert not list(folder.glob(".*.new-*"))


def test_a_profile_on_one_core_sees_no_other(built: Path, tmp_path: Path) -> None:
    core = str(max(os.sched_getaffinity(0)))
    done = run(
        "profile", str(built), "--cores", core, "--seconds", "0.1", "--no-layers", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    for result in json.loads(done.stdout)["results"]:
        samples = result["samples"]
        assert (samples["threads"], samples["machine"]["cores"]) == (1, 1)


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("profile", ["--cores", "0,9999"], "cores '0,9999' are not all there: this process has 0"),
        ("serve", ["--device", "CUDAA"], "device 'CUDAA': is no execution provider of ONNX"),
    ],
)
def test_cores_and_devices_that_are_not_here_are_one_line(
    command: str, option: list[str], message: str, built: Path, tmp_path: Path
) -> None:
    done = run(command, str(built), "--runtime", "onnxruntime", *option, cwd=tmp_path, code=2)
    assert message in done.stderr.splitlines()[-1]


def test_debug_shows_the_traceback(folder: Path) -> None:
    done = subprocess.run(
        [*EDGEKIT, "compress", "user.py:raising", "--debug"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "boom" in done.stderr


def test_a_user_model_from_factory_to_report(folder: Path) -> None:
    done = run("compress", "user.py:good", "-o", "u.edge", "--seconds", "0.2", cwd=folder)
    assert "Wrote u.edge" in done.stdout
    records = json.loads(run("verify", "u.edge", "--json", cwd=folder).stdout)
    assert all(record["passed"] for record in records)
    assert "openvino-int8" in run("verify", "u.edge", cwd=folder).stdout
    samples = json.loads(
        run("profile", "u.edge", "--seconds", "0.2", "-o", "s.json", "--json", cwd=folder).stdout
    )
    assert samples == json.loads((folder / "s.json").read_text())
    shown = run(
        "profile",
        "u.edge",
        "--seconds",
        "0.2",
        "--batch",
        "2",
        "--no-costs",
        "--no-layers",
        cwd=folder,
    ).stdout
    assert "Milliseconds for x 2x4" in shown
    wrong = run("profile", "u.edge", "--size", "sequence=2", cwd=folder, code=2)
    assert "The dynamic dimensions are batch" in wrong.stderr
    assert "instead of" in run("pack", "u.edge", cwd=folder).stdout
    (folder / "device").mkdir()
    unpacked = run("unpack", "../u.edge.tar.zst", cwd=folder / "device")
    assert "Wrote u.edge" in unpacked.stdout
    run("verify", "u.edge", cwd=folder / "device")
    assert "--output" in run("unpack", "user.py", cwd=folder, code=2).stderr
    run("report", "u.edge", cwd=folder)
    assert (folder / "u-report" / "report.html").stat().st_size > 10_000


def test_a_plain_onnx_file_with_data(folder: Path, onnx_file: Path) -> None:
    np.savez(folder / "data.npz", image=next(batches())["image"])
    done = run(
        "compress", str(onnx_file), "--calib", "data.npz", "-o", "o.edge", "--seconds", "0.2",
        "--json", cwd=folder,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert document["accuracy"]["metric"] == "cosine"
    assert {artifact["id"] for artifact in document["artifacts"]} == ARTIFACTS
    run("compress", str(onnx_file), cwd=folder, code=2)  # no data to calibrate on


def test_an_exact_match_is_still_strict_json(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    done = run(
        "compress", "user.py:exact", "-o", "e.edge", "--seconds", "0.2", "--json", cwd=folder
    )
    document = json.loads(done.stdout, parse_constant=refuse)
    assert document["verification"][0]["outputs"]["output"]["sqnr_db"] == "Infinity"
    verified = run("verify", "e.edge", "--json", cwd=folder).stdout
    assert json.loads(verified, parse_constant=refuse)[0]["passed"]
    run("report", "e.edge", cwd=folder)
    json.loads((folder / "e-report" / "report.json").read_text(), parse_constant=refuse)


def test_export_of_a_bundle_and_of_an_onnx_file_need_no_data(
    folder: Path, onnx_file: Path, built: Path
) -> None:
    for index, model in enumerate((onnx_file, built)):
        out = f"{index}.edge"
        run("export", str(model), "-o", out, "--runtime", "openvino", cwd=folder)
        assert json.loads(run("verify", out, "--json", cwd=folder).stdout)[0]["passed"]


def test_verify_refuses_a_changed_byte_with_exit_code_2(bundle_copy: Path) -> None:
    file = bundle_copy / "openvino" / "int8.bin"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    done = run("verify", str(bundle_copy), cwd=bundle_copy.parent, code=2)
    assert "int8.bin: was changed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_lists_and_doctor(folder: Path) -> None:
    assert set(json.loads(run("zoo", "--json", cwd=folder).stdout)) >= {"resnet8-mnist", "minilm"}
    assert "zoo:minilm" in run("zoo", cwd=folder).stdout
    names = [recipe["name"] for recipe in json.loads(run("recipes", "--json", cwd=folder).stdout)]
    assert {"fp32", "int8", "int8-accurate", "fp16", "qat-int8"} <= set(names)
    assert "percentile: 99.999" in run("recipes", "int8", cwd=folder).stdout
    assert json.loads(run("doctor", "--json", cwd=folder).stdout)["machine"]["cores"] >= 1
    assert "onnxruntime" in run("doctor", cwd=folder).stdout
    assert run("--version", cwd=folder).stdout.strip()


@pytest.mark.parametrize(
    "command",
    [
        "compress",
        "export",
        "verify",
        "profile",
        "report",
        "serve",
        "pack",
        "unpack",
        "demo",
        "zoo",
        "recipes",
    ],
)
def test_every_command_explains_itself(command: str, folder: Path) -> None:
    assert "Usage: edgekit" in run(command, "--help", cwd=folder).stdout.replace(
        "python -m edgekit", "edgekit"
    )


def test_help_takes_a_fifth_of_importing_torch_at_most() -> None:
    def least(command: list[str]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=dict(os.environ))
            times.append(time.perf_counter() - start)
        return min(times)

    torch = least([sys.executable, "-c", "import torch"])
    assert least([*EDGEKIT, "--help"]) < 0.2 * torch


def test_diff_finds_no_fault_in_what_was_built_and_the_one_that_was_planted(
    bundle_copy: Path, tmp_path: Path
) -> None:
    name = bundle_copy.name
    same = run("diff", f"{name}:onnxruntime-fp32", f"{name}:openvino-fp32", cwd=tmp_path)
    assert "none adds far more noise" in same.stdout
    model = onnx.load(bundle_copy / "model.onnx")
    (weight,) = [t for t in model.graph.initializer if t.name == "head.weight"]
    weight.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 3, weight.name)
    )
    onnx.save(model, tmp_path / "bad.onnx")
    found = run("diff", name, "bad.onnx", "-o", "diff.html", cwd=tmp_path, code=1)
    assert "of module head (Linear)" in found.stderr
    assert "head (Linear)" in (tmp_path / "diff.html").read_text()
    told = run("diff", name, "bad.onnx", "--json", cwd=tmp_path, code=1)
    assert json.loads(told.stdout)["guilty"]["module"] == "head (Linear)"


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        (("none.onnx", "none.onnx"), "no such file"),
        (("none.edge", "none.edge"), "no such bundle"),
        (("copy.edge:int7", "copy.edge"), "has no artifact 'int7'. Choose from onnxruntime-fp32"),
        (("broken.onnx", "copy.edge"), "ONNX"),
    ],
)
def test_what_diff_cannot_open_is_one_line(
    bundle_copy: Path, tmp_path: Path, sides: tuple[str, str], reason: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    assert bundle_copy.exists()
    done = run("diff", *sides, cwd=tmp_path, code=2)
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["verify", "serve", "profile", "compress"])
@pytest.mark.timeout(60)
def test_a_model_that_wants_a_foreign_file_is_refused(
    bundle_copy: Path, tmp_path: Path, command: str
) -> None:
    manifest = Bundle.open(bundle_copy).manifest
    (tmp_path / "secret").write_bytes(bytes(1024))
    folder = tmp_path / "copy.edge"
    path = folder / Bundle.open(folder).selected("onnxruntime").files[0].path
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    onnx.save(model, path)
    entry = hash_file(bundle_copy, path)
    artifacts = tuple(
        one.model_copy(update={"files": (entry,)}) if one.files[0].path == entry.path else one
        for one in manifest.artifacts
    )
    seal(bundle_copy, manifest.model_copy(update={"artifacts": artifacts}))
    target = str(path) if command == "compress" else str(bundle_copy)
    options = [] if command == "compress" else ["--runtime", "onnxruntime"]
    done = run(command, target, *options, cwd=tmp_path, code=2)
    assert "its data in '../secret' is refused: it leaves the folder" in done.stderr
