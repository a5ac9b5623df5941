from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import ModelReferenceError, WorkloadError
from edgekit.modelref import resolve
from edgekit.reference import reference_predict
from tests.conftest import SHAPE, batches

FACTORY = """
import torch
from edgekit.workload import Workload

def good():
    inputs = {"x": torch.zeros(1, 4)}
    return Workload(name="user", model=torch.nn.Linear(4, 2), example_inputs=inputs)

def raising():
    raise KeyError("boom")

def wrong():
    return 3
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.py"  # a name that edgekit has, too
    path.write_text(FACTORY)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    together = np.concatenate([feeds["image"] for feeds in batches()])
    np.savez(tmp_path / "data.npz", image=together)
    return tmp_path / "data.npz"


def test_a_factory_in_a_file(user_file: Path) -> None:
    assert resolve(f"{user_file}:good").name == "user"


def test_a_factory_in_a_module(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = user_file.parent / "mypackage"
    package.mkdir()
    (package / "models.py").write_text(FACTORY)
    monkeypatch.chdir(user_file.parent)
    assert resolve("mypackage.models:good").name == "user"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("goood", "did you mean 'good'"),
        ("raising", "the factory raised KeyError: 'boom'"),
        ("wrong", "returned int"),
    ],
)
def test_a_bad_factory_is_one_line(user_file: Path, factory: str, message: str) -> None:
    with pytest.raises((ModelReferenceError, WorkloadError)) as caught:
        resolve(f"{user_file}:{factory}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere.py:f", "no such file"),
        ("no.such.module:f", "ModuleNotFoundError"),
        ("word", "is not a model"),
        ("nowhere.onnx", "no such file"),
        ("zoo:resnet9", "did you mean 'zoo:resnet8-mnist'"),
        ("weights.pth", "weights_only=True"),
        ("scripted.pt", "TorchScript"),
    ],
)
def test_what_is_not_there_or_refused_says_why(reference: str, message: str) -> None:
    with pytest.raises(ModelReferenceError) as caught:
        resolve(reference)
    assert message in str(caught.value)


def test_an_onnx_file_with_data_is_judged_on_samples_it_is_not_calibrated_on(
    onnx_file: Path, data: Path
) -> None:
    workload = resolve(str(onnx_file), data)
    assert len(list(workload.feeds())) == 26  # 32 samples without every fifth
    with reference_predict(workload) as predict:
        assert workload.score(predict) == pytest.approx(1.0)
    assert workload.dynamic == {"image": {0: "batch"}}


def test_an_onnx_file_without_data_can_only_be_exported(onnx_file: Path) -> None:
    workload = resolve(str(onnx_file))
    assert workload.calibration is None
    assert workload.example_inputs["image"].shape == (1, *SHAPE)


def test_a_torch_export_program(tmp_path: Path, network: nn.Module, data: Path) -> None:
    batch = torch.export.Dim("n", min=1)
    program = torch.export.export(
        network, (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: batch},), strict=False
    )
    torch.export.save(program, tmp_path / "net.pt2")
    workload = resolve(str(tmp_path / "net.pt2"), data)
    assert workload.dynamic == {"image": {0: "batch"}}
    feeds = next(batches())
    with reference_predict(workload) as predict, torch.no_grad():
        np.testing.assert_allclose(
            predict(feeds)["output"],
            network(torch.from_numpy(feeds["image"])).numpy(),
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_bundle_is_a_model_again(built: Path) -> None:
    workload = resolve(str(built))
    assert workload.name == "residual"
    assert workload.model == built / "model.onnx"


def test_damaged_files_are_refused_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.onnx", "x.pt2"):
        (tmp_path / name).write_text("nonsense")
        with pytest.raises(ModelReferenceError, match="is not"):
            resolve(str(tmp_path / name))
    assert capfd.readouterr() == ("", "")
