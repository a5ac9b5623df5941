"""What ncnn can take, and what it is told that it cannot. The rest is in test_sessions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.exporters import ExportOptions, get
from edgekit.runtimes import SessionOptions
from onnx import TensorProto, helper
from torch import nn

from edgekit import runtimes
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError, RuntimeUnavailableError
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.runtimes.conftest import Artifacts

pytest.importorskip("ncnn", reason="ncnn is not installed: pip install 'edgekit[ncnn,pnnx]'")

NCNN = runtimes.get("ncnn")
NO_OPTIONS = ExportOptions(None, {})


class TwoByTwo(nn.Module):
    """Two inputs of different ranks and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.linear = nn.Linear(6, 4)

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mixed = torch.sigmoid(self.conv(image))
        return mixed, mixed.mean((2, 3)) * self.linear(scale)


def test_a_model_with_several_inputs_and_outputs_is_verified_in_a_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, scales = torch.randn(4, 2, 8, 8), torch.randn(4, 6)
    bundle = make_bundle(
        Workload(
            name="two",
            model=TwoByTwo().eval(),
            example_inputs={"image": images[:1], "scale": scales[:1]},
            output_names=["mixed", "weighted"],
            calibration=lambda: [{"image": images, "scale": scales}],
        ),
        tmp_path / "x.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets(["ncnn"], None),
        timing=None,
    )
    (record,) = bundle.manifest.verification
    assert record.passed
    assert record.ran
    assert min(output.sqnr_db for output in record.outputs.values()) > 100
    assert "batch 8" in record.extremes


def _graph(op: str, dtype: int, shape: list[int | str], folder: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, dtype, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", [x], [y])
    path = folder / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path
    )
    return path


@pytest.mark.parametrize(
    ("op", "dtype", "shape", "reason"),
    [
        ("Relu", TensorProto.FLOAT, ["batch", "width"], r"'x' is float32 \[batch, width\]"),
        ("Relu", TensorProto.FLOAT, [3, 4], r"\[3, 4\]"),
        ("Relu", TensorProto.FLOAT, ["batch"], "one to four"),
        ("Abs", TensorProto.INT64, ["batch", 4], "int64"),
        ("Det", TensorProto.FLOAT, ["batch", 4, 4, 4], "operator .*Det.* has no ncnn counterpart"),
    ],
)
def test_what_ncnn_cannot_take_is_refused(
    op: str, dtype: int, shape: list[int | str], reason: str, tmp_path: Path
) -> None:
    path = _graph(op, dtype, shape, tmp_path)
    with pytest.raises(ExportError, match=reason) as caught:
        get("ncnn").export(path, tmp_path / "made", NO_OPTIONS)
    assert "--runtime" in str(caught.value) or "Rewrite" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_missing_files_are_one_line(artifacts: Artifacts, tmp_path: Path) -> None:
    for end in (".param", ".bin", ".json"):
        shutil.copy(artifacts("ncnn").with_suffix(end), tmp_path / f"x{end}")
    path = tmp_path / "x.param"
    for end, content in (
        (".bin", "short"),
        (".json", "[1]"),
        (".param", "7767517\n1 1\nNo a 0 1 b\n"),
    ):
        (tmp_path / f"x{end}").write_text(content)
        with pytest.raises(RuntimeUnavailableError, match=r"ncnn .* refuses the model"):
            NCNN.load(path)
    (tmp_path / "x.bin").unlink()
    with pytest.raises(RuntimeUnavailableError, match=r"x\.bin: no such file"):
        NCNN.load(path)


def test_what_edgekit_cannot_do_with_ncnn_is_told(artifacts: Artifacts) -> None:
    for options in (SessionOptions(device="GPU"), SessionOptions(intermediates=True)):
        with pytest.raises(RuntimeUnavailableError):
            NCNN.load(artifacts("ncnn"), options)


def test_a_batch_is_the_samples_one_by_one(artifacts: Artifacts) -> None:
    images = np.random.default_rng(0).standard_normal((5, 3, 16, 16)).astype(np.float32)
    with NCNN.load(artifacts("ncnn"), SessionOptions(threads=1)) as session:
        together = session.run({"image": images})["logits"]
        alone = [session.run({"image": one[None]})["logits"][0] for one in images]
    np.testing.assert_array_equal(together, alone)
