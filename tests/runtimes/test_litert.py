"""What LiteRT takes, and what is told that it cannot. The rest is in test_sessions.

Its converter does not fit into the environment of the tests. What needs it is skipped without, and
the runtime runs a model that it converted: ``data/affine.tflite``, of :class:`Affine`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from edgekit.exporters import ExportOptions, get
from edgekit.runtimes import SessionOptions
from torch import nn

from edgekit import runtimes
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError, OutOfRangeError, RuntimeUnavailableError
from edgekit.pipeline import make_bundle
from edgekit.programs import save_program
from edgekit.spec import Feeds, TensorSpec
from edgekit.targets import EngineSettings, parse_targets
from edgekit.workload import Workload

pytest.importorskip(
    "ai_edge_litert", reason="ai-edge-litert is not installed: pip install 'edgekit[litert]'"
)
needs_converter = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None,
    reason="litert-torch is not installed: pip install 'edgekit[litert-torch]'",
)

LITERT = runtimes.get("litert")
AFFINE = Path(__file__).with_name("data") / "affine.tflite"


class Affine(nn.Module):
    """Two types, a keyword, and outputs in another order than the inputs."""

    def forward(self, x: torch.Tensor, *, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ids + 1, 2 * x + 1, x.sum(1)


def _feeds(rows: int) -> Feeds:
    generator = np.random.default_rng(rows)
    return {
        "x": generator.standard_normal((rows, 4)).astype(np.float32),
        "ids": generator.integers(-(2**40), 2**40, (rows, 3)),
    }


def _check_affine(path: Path, rows: int) -> None:
    feeds = _feeds(rows)
    with LITERT.load(path, SessionOptions(threads=1)) as session:
        made = session.run(feeds)
    np.testing.assert_array_equal(made["next"], feeds["ids"] + 1)
    np.testing.assert_allclose(made["line"], 2 * feeds["x"] + 1, rtol=1e-6)
    np.testing.assert_allclose(made["sum"], feeds["x"].sum(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 5])
def test_the_samples_of_a_batch_are_run_one_by_one(rows: int) -> None:
    _check_affine(AFFINE, rows)


def test_results_are_the_callers_own() -> None:
    with LITERT.load(AFFINE) as session:
        first = session.run(_feeds(1))
        kept = {name: array.copy() for name, array in first.items()}
        session.run(_feeds(2))
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])
    with pytest.raises(RuntimeError, match="closed"):
        session.run(_feeds(1))


def test_loading_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    LITERT.load(AFFINE).close()
    assert capfd.readouterr().err == ""


def test_damaged_and_missing_files_are_one_line(tmp_path: Path) -> None:
    rows, path = json.loads(AFFINE.with_suffix(".json").read_text()), tmp_path / "x.tflite"
    another = json.dumps([rows[0] * 2, *rows[1:]])
    for model, specs, reason in (
        (b"not a model", json.dumps(rows), "LiteRT .* refuses the model"),
        (AFFINE.read_bytes()[:300], json.dumps(rows), "LiteRT .* refuses the model"),
        (AFFINE.read_bytes(), "[1]", "LiteRT .* refuses the model"),
        (AFFINE.read_bytes(), another, "is of another model"),
    ):
        path.write_bytes(model)
        path.with_suffix(".json").write_text(specs)
        with pytest.raises(RuntimeUnavailableError, match=reason) as caught:
            LITERT.load(path)
        assert "\n" not in str(caught.value)
    shutil.copy(AFFINE, path)
    path.with_suffix(".json").unlink()
    with pytest.raises(RuntimeUnavailableError, match=r"x\.json: no such file"):
        LITERT.load(path)


def test_what_edgekit_cannot_do_with_litert_is_told() -> None:
    for options in (SessionOptions(device="GPU"), SessionOptions(intermediates=True)):
        with pytest.raises(RuntimeUnavailableError):
            LITERT.load(AFFINE, options)


def test_an_onnx_file_and_a_missing_package_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found, reason in ((AFFINE, "give the PyTorch model"), (None, r"edgekit\[litert-torch\]")):
        monkeypatch.setattr("importlib.util.find_spec", lambda _, found=found: found)
        with pytest.raises(ExportError, match=reason):
            get("litert").export(tmp_path / "m.onnx", tmp_path / "x", ExportOptions(None, {}))


def _traced(
    model: nn.Module, dynamic: int, x: torch.Tensor, **keywords: torch.Tensor
) -> torch.export.ExportedProgram:
    """The first so many axes of its inputs are dynamic."""
    axes = {axis: torch.export.Dim.AUTO(min=1) for axis in range(dynamic)}
    shapes = dict.fromkeys(["x", *keywords], axes)
    return torch.export.export(model.eval(), (x,), keywords, dynamic_shapes=shapes)


@needs_converter
def test_types_order_and_keywords_survive_the_conversion(tmp_path: Path) -> None:
    program = _traced(Affine(), 1, torch.zeros(2, 4), ids=torch.zeros(2, 3, dtype=torch.int64))
    inputs = [TensorSpec("x", "float32", ("batch", 4)), TensorSpec("ids", "int64", ("batch", 3))]
    outputs = [
        TensorSpec("next", "int64", ("batch", 3)),
        TensorSpec("line", "float32", ("batch", 4)),
        TensorSpec("sum", "float32", ("batch",)),
    ]
    save_program(program, tmp_path / "p.pt2", inputs, outputs)
    options = ExportOptions(None, {}, program=tmp_path / "p.pt2")
    files = get("litert").export(tmp_path / "m.onnx", tmp_path / "affine", options)
    assert [file.name for file in files] == ["affine.tflite", "affine.json"]
    _check_affine(files[0], 3)


class Sort(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort().values


class Det(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.det(x)


@needs_converter
@pytest.mark.parametrize(
    ("layer", "dynamic", "reason"),
    [
        (nn.ReLU(), 1, r"tensor 'x': dimension 'batch' is dynamic; .* --range batch=16:16:16"),
        (Sort(), 0, r"operator STABLEHLO_SORT has no LiteRT counterpart"),
        (Det(), 0, r"py:\d+, module 1 \(Det\): operator aten.det has no LiteRT counterpart"),
    ],
)
def test_what_litert_cannot_take_is_told(
    layer: nn.Module, dynamic: int, reason: str, tmp_path: Path
) -> None:
    class Model(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # calls its input x
            return super().forward(x)

    program = _traced(Model(nn.Linear(4, 4), layer), dynamic, torch.zeros(2, 4, 4))
    torch.export.save(program, tmp_path / "p.pt2")
    options = ExportOptions(None, {}, program=tmp_path / "p.pt2")
    with pytest.raises(ExportError, match=reason) as caught:
        get("litert").export(tmp_path / "m.onnx", tmp_path / "made", options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt2"]


@needs_converter
def test_a_model_is_verified_in_a_bundle_at_the_size_that_it_was_built_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 2, 8, 12)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Sigmoid())
    bundle = make_bundle(
        Workload(
            name="filter",
            model=model.eval(),
            example_inputs={"image": images[:1]},
            dynamic_shapes={"image": {0: "batch", 3: "width"}},
            output_names=["filtered"],
            calibration=lambda: [{"image": images.numpy()}],
        ),
        tmp_path / "x.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets(["litert"], None),
        timing=None,
        engines=EngineSettings({"width": (12, 12, 12)}),
    )
    (record,) = bundle.manifest.verification
    assert record.passed
    assert record.ran
    assert record.outputs["filtered"].sqnr_db > 100
    assert "batch 8" in record.extremes
    assert "width 24" not in record.extremes
    assert bundle.manifest.versions["litert-torch"]
    with (
        LITERT.load(bundle.file(bundle.selected("litert"))) as session,
        pytest.raises(OutOfRangeError, match="axis 3 is 24, the engine takes 12 to 12"),
    ):
        session.run({"image": np.zeros((1, 2, 8, 24), np.float32)})
