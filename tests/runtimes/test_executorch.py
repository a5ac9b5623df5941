"""What ExecuTorch is built for, and what is told that it cannot. The rest is in test_sessions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from edgekit.exporters import ExportOptions, ShapeRange, get
from edgekit.runtimes import SessionOptions
from torch import nn

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError, OutOfRangeError, RuntimeUnavailableError
from edgekit.pipeline import make_bundle
from edgekit.spec import Feeds
from edgekit.targets import EngineSettings, parse_targets
from edgekit.workload import Metric, Predict, Workload
from tests.runtimes.conftest import Artifacts

pytest.importorskip(
    "executorch", reason="executorch is not installed: pip install 'edgekit[executorch]'"
)

pytestmark = pytest.mark.slow  # importing its exporter and the first lowering

EXECUTORCH = runtimes.get("executorch")
ROWS = 50


class Sentences(nn.Module):
    """Inputs of two types, two dynamic dimensions, two outputs, and parts outside of XNNPACK."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.mix = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        read = self.words(tokens) * weight[..., None]
        read = self.norm(torch.relu(self.mix(read)))
        return read, self.head(read.mean(1))


def _feeds(rows: int, length: int) -> Feeds:
    generator = np.random.default_rng(rows)
    return {
        "tokens": generator.integers(0, 11, (rows, length)),
        "weight": generator.standard_normal((rows, length)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    data = _feeds(ROWS, 5)

    def evaluate(predict: Predict) -> dict[str, float]:
        return {"rows": float(len(predict(data)["logits"]))}

    axes = {0: "batch", 1: "length"}
    return make_bundle(
        Workload(
            name="sentences",
            model=Sentences().eval(),
            example_inputs={name: torch.from_numpy(array[:1]) for name, array in data.items()},
            dynamic_shapes={"tokens": axes, "weight": axes},
            output_names=["read", "logits"],
            calibration=lambda: [data],
            evaluate=evaluate,
            metric=Metric("rows"),
        ),
        tmp_path_factory.mktemp("bundle") / "x.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets(["executorch"], None),
        timing=None,
        engines=EngineSettings({"batch": (1, 1, 20)}),
    )


def test_a_model_is_verified_in_a_bundle_at_every_size_that_it_was_built_for(
    sentences: Bundle,
) -> None:
    (record,) = sentences.manifest.verification
    assert record.passed
    assert record.ran
    assert min(output.sqnr_db for output in record.outputs.values()) > 100
    assert {"batch 1", "batch 8", "length 1", "length 10"} <= set(record.extremes)
    assert sentences.manifest.versions["executorch"]


def test_a_batch_beyond_the_range_is_evaluated_in_pieces(sentences: Bundle) -> None:
    assert sentences.manifest.accuracy is not None
    assert sentences.manifest.accuracy.artifacts == {"executorch-fp32": ROWS}


def test_every_size_of_the_range_and_no_other_is_run(sentences: Bundle) -> None:
    with EXECUTORCH.load(sentences.file(sentences.selected("executorch"))) as session:
        assert session.run(_feeds(20, 40))["read"].shape == (20, 40, 8)
        for feeds, told in (
            (_feeds(21, 5), r"axis 0 is 21, the engine takes 1 to 20"),
            (_feeds(1, 41), r"axis 1 is 41, the engine takes 1 to 40"),
        ):
            with pytest.raises(OutOfRangeError, match=f"tensor 'tokens': .*{told}.*--range"):
                session.run(feeds)


def test_a_convolution_takes_the_batches_of_its_range(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3)  # traced with one image, it is bounded to 15
    shapes = {"input": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (20, 3, 8, 8))}
    options = replace(_program(tmp_path, model, torch.zeros(2, 3, 8, 8), 0), shapes=shapes)
    path, _ = get("executorch").export(tmp_path / "m.onnx", tmp_path / "m", options)
    images = torch.randn(20, 3, 8, 8)
    with EXECUTORCH.load(path) as session:
        made = session.run({"input": images})["output"]
    np.testing.assert_allclose(made, model(images).detach(), atol=1e-5)


def _program(folder: Path, model: nn.Module, x: torch.Tensor, *dynamic: int) -> ExportOptions:
    shapes = ({axis: torch.export.Dim.AUTO(min=1) for axis in dynamic},)
    program = torch.export.export(model.eval(), (x,), dynamic_shapes=shapes)
    torch.export.save(program, folder / "p.pt2")
    return ExportOptions(None, {}, program=folder / "p.pt2")


class Sort(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort().values


class Det(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.det(x)


class Fourier(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Sort(), r"py:\d+, module 1 \(Sort\): operator aten.sort has no ExecuTorch counterpart"),
        (Det(), r"module 1 \(Det\): operator aten.det has no ExecuTorch counterpart"),
        (Fourier(), r"^m.onnx: ExecuTorch cannot lower it: .*complex64.* --runtime"),
    ],
)
def test_what_executorch_cannot_compute_is_told(
    layer: nn.Module, reason: str, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), layer)
    options = _program(tmp_path, model, torch.zeros(2, 4, 4))
    with pytest.raises(ExportError, match=reason) as caught:
        get("executorch").export(tmp_path / "m.onnx", tmp_path / "made", options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt2"]


def test_an_onnx_file_and_a_missing_package_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason in ("m.onnx: .* give the PyTorch model", r"pip install 'edgekit\[executorch\]'"):
        with pytest.raises(ExportError, match=reason):
            get("executorch").export(tmp_path / "m.onnx", tmp_path / "x", ExportOptions(None, {}))
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "torch" in EXECUTORCH.status().reason


def test_damaged_and_missing_files_are_one_line(
    artifacts: Artifacts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, path = artifacts("executorch"), tmp_path / "x.pte"
    rows = json.loads(whole.with_suffix(".json").read_text())
    another = json.dumps([rows[0] * 2, *rows[1:]])
    for program, specs, reason in (
        (b"not a model" * 100, json.dumps(rows), r"Program identifier 'a mo' != expected"),
        (whole.read_bytes()[:2000], json.dumps(rows), "File size is too small"),
        (whole.read_bytes(), "[1]", "ExecuTorch .* refuses the model"),
        (whole.read_bytes(), "{", "ExecuTorch .* refuses the model"),
        (whole.read_bytes(), another, "is of another model"),
    ):
        path.write_bytes(program)
        path.with_suffix(".json").write_text(specs)
        with pytest.raises(RuntimeUnavailableError, match=reason):
            EXECUTORCH.load(path)
    shutil.copy(whole, path)
    path.with_suffix(".json").unlink()
    with pytest.raises(RuntimeUnavailableError, match=r"x\.json: no such file"):
        EXECUTORCH.load(path)
    assert capfd.readouterr().err == ""  # what the engine logs does not reach the terminal


def test_what_edgekit_cannot_do_with_executorch_is_told(artifacts: Artifacts) -> None:
    for options in (
        SessionOptions(device="GPU"),
        SessionOptions(cores=(0,)),
        SessionOptions(intermediates=True),
    ):
        with pytest.raises(RuntimeUnavailableError):
            EXECUTORCH.load(artifacts("executorch"), options)


def test_sessions_of_one_process_do_not_disturb_each_other(artifacts: Artifacts) -> None:
    images = [np.full((2, 3, 16, 16), value, np.float32) for value in (0.5, -2)]
    path = artifacts("executorch")
    with EXECUTORCH.load(path, SessionOptions(threads=1)) as one:
        wanted = [one.run({"image": image})["logits"] for image in images]
        with EXECUTORCH.load(path, SessionOptions(threads=2)) as other:
            for image, result in zip(images, wanted, strict=True):
                np.testing.assert_allclose(other.run({"image": image})["logits"], result, rtol=1e-5)
                np.testing.assert_allclose(one.run({"image": -image})["logits"].shape, (2, 5))
        np.testing.assert_array_equal(one.run({"image": images[0]})["logits"], wanted[0])
