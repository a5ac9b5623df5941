from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.exporters import ExportOptions
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit import exporters, runtimes
from edgekit.compress.modules import flat_tensors
from edgekit.errors import EdgekitError, ExportError, UnsupportedOperatorError, WorkloadError
from edgekit.zoo.check.examples import example_inputs
from edgekit.zoo.check.small import small_model

BATCH = {"x": {0: "batch"}}


def _export(model: nn.Module, folder: Path, example: torch.Tensor, **options: object) -> Path:
    settings: dict = {"dynamic": BATCH, "output_names": ["y"], "opset": 20, **options}
    return export_onnx(model, {"x": example}, folder / "m.onnx", **settings)


def _same(model: nn.Module, path: Path, inputs: torch.Tensor) -> None:
    with runtimes.get("onnxruntime").load(path) as session, torch.no_grad():
        got = session.run({"x": inputs.numpy()})["y"]
        np.testing.assert_allclose(got, model.eval()(inputs).numpy(), rtol=1e-4, atol=1e-5)


def test_names_dynamic_dimension_and_opset_are_kept(tmp_path: Path) -> None:
    path = _export(nn.Linear(4, 3), tmp_path, torch.zeros(2, 4))
    model = onnx.load(path)
    assert model.opset_import[0].version == 20
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_other_batch_sizes_than_the_example_give_the_same_as_torch(
    tmp_path: Path, batch: int
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    path = _export(model, tmp_path, torch.zeros(1, 3, 8, 8))
    _same(model, path, torch.randn(batch, 3, 8, 8))


def test_a_recurrent_network_exports(tmp_path: Path) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0][:, -1]

    model = Reader()
    _same(model, _export(model, tmp_path, torch.zeros(2, 5, 4)), torch.randn(3, 5, 4))


def test_a_model_that_bounds_its_dimension_exports_within_the_bound(tmp_path: Path) -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(16, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.table[: x.shape[1]]

    model = Positions()
    path = _export(
        model, tmp_path, torch.zeros(2, 6, 4), dynamic={"x": {0: "batch", 1: "sequence"}}
    )
    _same(model, path, torch.randn(3, 9, 4))


def test_two_values_of_one_name_are_told_apart(tmp_path: Path) -> None:
    class Unit(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(x.sum(1), dim=-1)

    _same(Unit(), _export(Unit(), tmp_path, torch.zeros(2, 3, 4)), torch.randn(5, 3, 4))


def test_tensors_of_one_frozen_shape_are_renamed(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8)
            self.up, self.side = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(3, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inner = nn.functional.silu(self.norm(self.down(x)))
            return torch.cat([self.up(inner), self.side(x)], 1)

    model = Net()
    path = _export(model, tmp_path, torch.zeros(2, 3, 16, 16))
    _same(model, path, torch.randn(3, 3, 16, 16))
    dims = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"


class _Repeating(nn.Module):
    """Returns one tensor twice, its input, and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = x.relu()
        return made, x, made, self.table, made.view_as(made)


def test_each_output_has_its_name_also_where_several_are_one_tensor(tmp_path: Path) -> None:
    model, x = _Repeating(), torch.randn(4, 3)
    names = ["first", "given", "again", "table", "seen"]
    path = _export(model, tmp_path, x, output_names=names)
    prepared = prepare_onnx(path, tmp_path / "prepared.onnx")
    for runtime in ("onnxruntime", "openvino"):
        exporter = exporters.get(runtime)
        file = exporter.export(prepared, tmp_path / runtime, ExportOptions(None, {}))[0]
        with runtimes.get(runtime).load(file) as session:
            assert [spec.name for spec in session.inputs] == ["x"]
            made = session.run({"x": x.numpy()})
        assert list(made) == names
        for name, wanted in zip(names, model(x), strict=True):
            np.testing.assert_array_equal(made[name], wanted.detach().numpy())


def test_an_output_that_is_called_as_an_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="an input and an output are both called 'x'"):
        export_onnx(
            nn.Linear(4, 3),
            {"x": torch.zeros(2, 4)},
            tmp_path / "m.onnx",
            dynamic={},
            output_names=["x"],
            opset=18,
        )


def test_training_mode_is_restored(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    _export(model, tmp_path, torch.zeros(2, 4))
    assert model.training


def test_an_unsupported_operator_is_named_with_its_module(tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Bessel()))
    with pytest.raises(UnsupportedOperatorError) as caught:
        _export(model, tmp_path, torch.zeros(2, 4))
    assert "bessel_j0" in caught.value.operator
    assert caught.value.module == "1.1 (Bessel)"


def test_a_failed_conversion_tells_what_began_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def convert(*_: object, **__: object) -> None:
        cause = ValueError("4 axes only")
        raise RuntimeError("Failed to convert. Please report to PyTorch") from cause

    monkeypatch.setattr(torch.onnx, "export", convert)
    with pytest.raises(ExportError, match="ValueError: 4 axes only"):
        _export(nn.Linear(4, 4), tmp_path, torch.zeros(2, 4))


class _Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


class _Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 8)


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (_Branch(), ExportError, "control flow depends on the values"),
        (_Fixed(), ExportError, "'batch' cannot be dynamic: the model's code fixes it to 2"),
        (nn.Linear(5, 2), WorkloadError, "forward raised RuntimeError"),
    ],
)
def test_a_model_that_cannot_be_traced_says_why_in_one_line_and_prints_nothing(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    model: nn.Module,
    kind: type[EdgekitError],
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        _export(model, tmp_path, torch.zeros(2, 4))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


class _Weighted(nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None, *, offset=None):
        return {
            "y": x * (1 if scale is None else scale),
            "z": x + (0 if offset is None else offset),
        }


def test_inputs_out_of_order_are_bound_by_name(tmp_path: Path) -> None:
    inputs = {"offset": torch.full((1, 3), 5.0), "x": torch.ones(1, 3)}
    path = export_onnx(
        _Weighted(),
        inputs,
        tmp_path / "m.onnx",
        dynamic={"x": {0: "batch"}, "offset": {0: "batch"}},
        output_names=["y", "z"],
        opset=20,
    )
    with runtimes.get("onnxruntime").load(path) as session:
        feeds = {name: np.repeat(tensor.numpy(), 3, 0) for name, tensor in inputs.items()}
        made = session.run(feeds)
    np.testing.assert_array_equal(made["y"], np.ones((3, 3)))
    np.testing.assert_array_equal(made["z"], np.full((3, 3), 6.0))


def test_each_node_knows_the_module_that_it_comes_from(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    graph = onnx.load(_export(model, tmp_path, torch.zeros(2, 3, 8, 8))).graph
    found = [{one.key: one.value for one in node.metadata_props} for node in graph.node]
    assert [notes["edgekit.module"] for notes in found] == [
        "0 (Conv2d)", "2 (ReLU)", "3 (Flatten)",
    ]  # fmt: skip
    assert all(list(notes) == ["edgekit.module"] for notes in found)  # no code, no paths


def test_attention_is_exported_plain_where_torch_cannot_and_put_back(tmp_path: Path) -> None:
    model = small_model("t5")
    inputs = example_inputs(model)
    names = list(flat_tensors(model(**inputs)))
    before = model.config._attn_implementation
    assert before != "eager"
    export_onnx(model, inputs, tmp_path / "m.onnx", dynamic={}, output_names=names, opset=20)
    assert model.config._attn_implementation == before


class _Biased(nn.Module):
    """Attention with a learnt bias for each distance."""

    def __init__(self) -> None:
        super().__init__()
        self.distance = nn.Embedding(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.unflatten(2, (2, 4)).transpose(1, 2)
        place = torch.arange(x.shape[1])
        bias = self.distance((place - place[:, None]).abs()).permute(2, 0, 1).unsqueeze(0)
        mixed = nn.functional.scaled_dot_product_attention(parts, parts, parts, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2)


def test_attention_with_a_learnt_bias_is_exported_and_stays_learnt(tmp_path: Path) -> None:
    model = _Biased().eval()
    path = _export(model, tmp_path, torch.randn(2, 5, 8), dynamic={"x": {0: "batch", 1: "place"}})
    _same(model, path, torch.randn(3, 7, 8))
    assert model.distance.weight.requires_grad


def test_where_no_way_works_each_way_says_why(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(ExportError) as caught:
        _export(Branching(), tmp_path, torch.ones(2, 3))
    assert "control flow depends on the values of a tensor" in str(caught.value)
    assert "\n" not in str(caught.value)
