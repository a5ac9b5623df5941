"""Programs of torch.export: names, nested calls, and what is computed inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.exporters import ExportOptions, get
from edgekit.runtimes import SessionOptions, given_name
from onnx import numpy_helper
from torch import nn

from edgekit import runtimes
from edgekit.compress.recipe import Recipe
from edgekit.diff import compare, open_side, shared_feeds
from edgekit.errors import ExportError, RuntimeUnavailableError
from edgekit.pipeline import make_bundle
from edgekit.spec import TensorSpec
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.conftest import SHAPE, batches

FEEDS = next(batches())
TORCH = runtimes.get("torch")


class TwoWays(nn.Module):
    """Keyword arguments, an output that is an input, and one that is a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.ones(3))

    def forward(
        self, x: torch.Tensor, *, scale: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"same": x, "sum": x * scale + mask.int(), "weight": self.offset}


def _saved(model: nn.Module, folder: Path, *args: object, **kwargs: object) -> Path:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(model, args, kwargs), path)
    return path


@pytest.fixture
def two_ways(tmp_path: Path) -> Path:
    x, mask = torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool)
    return _saved(TwoWays(), tmp_path, x, scale=torch.zeros(3), mask=mask)


def test_a_program_of_somebody_else_has_the_names_of_its_arguments(two_ways: Path) -> None:
    feeds = {
        "x": np.float32([[1, 2, 3], [4, 5, 6]]),
        "scale": np.float32([1, 0, 2]),
        "mask": np.array([True, False, True]),
    }
    with TORCH.load(two_ways) as session:
        assert session.inputs[2] == TensorSpec("mask", "bool", (3,))
        assert [spec.name for spec in session.outputs] == ["output_0", "output_1", "output_2"]
        made = session.run(feeds)
        np.testing.assert_array_equal(made["output_1"], feeds["x"] * feeds["scale"] + feeds["mask"])
        made["output_0"][:] = made["output_2"][:] = 7  # the caller's own
        np.testing.assert_array_equal(session.run(feeds)["output_2"], [1, 1, 1])
    assert feeds["x"][0, 0] == 1


def test_nested_inputs_are_refused(tmp_path: Path) -> None:
    class Nested(nn.Module):
        def forward(self, pair: list[torch.Tensor]) -> torch.Tensor:
            return pair[0] + pair[1]

    path = _saved(Nested(), tmp_path, [torch.zeros(2), torch.zeros(2)])
    with pytest.raises(RuntimeUnavailableError, match="nested inputs"):
        TORCH.load(path)


def test_a_device_that_is_not_the_cpu_is_refused(program: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"device 'CUDA': .* on the CPU only"):
        TORCH.load(program, SessionOptions(device="CUDA"))


def test_the_saved_program_has_the_names_of_the_graph(program: Path, network: nn.Module) -> None:
    with TORCH.load(program) as session:
        assert session.inputs == (TensorSpec("image", "float32", ("batch", *SHAPE)),)
        assert session.outputs == (TensorSpec("logits", "float32", ("batch", 5)),)
        made = session.run(FEEDS)["logits"]
    with torch.no_grad():
        np.testing.assert_array_equal(made, network(torch.from_numpy(FEEDS["image"])).numpy())


def test_what_is_inside_has_the_names_of_the_graph_and_can_be_given(
    program: Path, onnx_file: Path
) -> None:
    inside = SessionOptions(intermediates=True)
    with TORCH.load(program, inside) as session:
        layers, made = session.layers, session.run(FEEDS)
    with runtimes.get("onnxruntime").load(onnx_file, inside) as session:
        wanted = session.run(FEEDS)
    named = {name: layer.tensor for layer in layers for name in layer.names}
    assert set(wanted) <= set(named)
    for name, value in wanted.items():
        np.testing.assert_allclose(made[named[name]], value, rtol=1e-4, atol=1e-5)
    given = TensorSpec("relu", "float32", tuple("abcd"))
    with TORCH.load(program, SessionOptions(intermediates=True, given=(given,))) as session:
        zeros = session.run({**FEEDS, given_name("relu"): np.zeros_like(made["relu"])})
    np.testing.assert_array_equal(zeros["relu"], made["relu"])  # what it is, not what is read
    assert np.abs(zeros["logits"] - made["logits"]).max() > 0.01


def test_diff_finds_the_layer_that_parts_from_pytorch(
    program: Path, onnx_file: Path, tmp_path: Path
) -> None:
    model = onnx.load(onnx_file)
    (weight,) = [t for t in model.graph.initializer if t.name == "body.0.weight"]
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    sides = open_side(str(program)), open_side(str(tmp_path / "wrong.onnx"))
    wrong = compare(*sides, shared_feeds(*sides)).guilty
    assert wrong is not None
    assert (wrong.op, wrong.module) == ("Conv", "body.0 (Conv2d)")


def test_a_bundle_holds_the_verified_programs_of_the_original_and_of_what_was_pruned(
    workload: Workload, tmp_path: Path
) -> None:
    steps = [{"type": "prune", "multiple": 2, "measured": False}]
    bundle = make_bundle(
        workload,
        tmp_path / "x.edge",
        recipe=Recipe.model_validate({"name": "pruned", "passes": steps}),
        targets=parse_targets(["torch"], None),
        timing=None,
    )
    records = {record.artifact: record for record in bundle.manifest.verification}
    assert set(records) == {"torch-fp32", "torch-pruned-fp32"}
    assert all(record.outputs["logits"].sqnr_db > 130 for record in records.values())
    whole, pruned = bundle.manifest.artifacts
    assert whole.format == pruned.format == "torch-program"
    assert pruned.size < whole.size
    with TORCH.load(bundle.file(pruned)) as session:
        assert session.run(FEEDS)["logits"].shape == (8, 5)


def test_an_onnx_file_cannot_become_a_program(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="give the PyTorch model"):
        get("torch").export(onnx_file, tmp_path / "x", ExportOptions(None, {}))
