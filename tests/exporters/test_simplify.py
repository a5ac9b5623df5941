"""What the converter wrote is made plainer, and computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit import runtimes


def _exported(model: nn.Module, x: torch.Tensor, folder: Path) -> tuple[list[str], np.ndarray]:
    """The operators of the exported graph, and what ONNX Runtime computes with it."""
    path = export_onnx(model, {"x": x}, folder / "m.onnx", dynamic={}, output_names=["y"], opset=20)
    with runtimes.get("onnxruntime").load(path) as session:
        return [node.op_type for node in onnx.load(path).graph.node], session.run({"x": x.numpy()})[
            "y"
        ]


@pytest.mark.parametrize("small", [1e-8, 1e-12])
def test_a_small_number_that_keeps_a_root_from_zero_is_not_taken_for_zero(
    tmp_path: Path, small: float
) -> None:
    class Norm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + small)

    x = torch.randn(3, 4)
    x[1] = 0.0  # a padding token's embedding, say
    _, made = _exported(Norm(), x, tmp_path)
    np.testing.assert_allclose(made, Norm()(x).numpy(), rtol=1e-5)


def test_a_factor_near_one_counts(tmp_path: Path) -> None:
    class Factor(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1.000005

    x = torch.ones(2, 3)
    _, made = _exported(Factor(), x, tmp_path)
    np.testing.assert_array_equal(made, Factor()(x).numpy())
    assert (made != 1.0).all()


def test_what_changes_nothing_is_removed(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((1.0 * (x + 0.0) - 0.0) / 1.0 * 1.0).relu()

    operators, _ = _exported(Nothing(), torch.randn(2, 3), tmp_path)
    assert operators == ["Relu"]


def test_a_tensor_clipped_twice_keeps_both_pairs_of_limits(tmp_path: Path) -> None:
    class Clipped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(min=-1.0).clamp(max=1.0) * 10 + x.clamp(min=-2.0).clamp(max=2.0)

    x = torch.linspace(-3, 3, 8)
    operators, made = _exported(Clipped(), x, tmp_path)
    assert operators.count("Clip") == 2
    np.testing.assert_allclose(made, Clipped()(x).numpy(), rtol=1e-6)
