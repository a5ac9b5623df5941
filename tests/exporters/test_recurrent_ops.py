from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.recurrent_ops import whole_layers
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit import runtimes


class Readers(nn.Module):
    """Every kind of layer at once: one export is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(4, 8, batch_first=True)
        self.bare = nn.GRU(8, 4, bias=False, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        read, (h, _) = self.lstm(x)
        made, g = self.gru(x)
        return read, h, self.bare(made)[0], g


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Readers().eval()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, model: nn.Module) -> Path:
    folder = tmp_path_factory.mktemp("recurrent")
    exported = export_onnx(
        model,
        {"x": torch.zeros(2, 5, 4)},
        folder / "m.onnx",
        dynamic={"x": {0: "batch", 1: "length"}},
        output_names=["read", "h", "bare", "g"],
        opset=20,
        program=folder / "p.pt2",
    )
    return prepare_onnx(exported, folder / "p.onnx")


@pytest.mark.parametrize(
    ("engine", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".onnx"), ("torch", ".pt2")]
)
@pytest.mark.parametrize("shape", [(1, 1, 4), (3, 9, 4)])
def test_other_lengths_than_the_examples_compute_the_same(
    graph: Path, model: nn.Module, engine: str, suffix: str, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    artifact = graph.with_suffix(suffix)
    with runtimes.get(engine).load(artifact) as session, torch.no_grad():
        for got, wanted in zip(session.run({"x": x.numpy()}).values(), model(x), strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)


def test_each_layer_is_an_operator_of_onnx(graph: Path) -> None:
    operators = [node.op_type for node in onnx.load(graph).graph.node]
    assert operators.count("LSTM") == 2
    assert operators.count("GRU") == 2
    assert {node.domain for node in onnx.load(graph).graph.node} == {""}


def test_packed_sequences_are_left_to_pytorch() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.ones(2, 3, 4), torch.tensor([3, 2]), True)
    for layer in (nn.LSTM(4, 8, batch_first=True), nn.GRU(4, 8, batch_first=True)):
        wanted = layer(packed)[0].data
        with whole_layers():
            torch.testing.assert_close(layer(packed)[0].data, wanted)
