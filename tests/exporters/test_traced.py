"""Operators that torch's converter stumbles over are exported all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit import runtimes


class _Hidden(nn.Module):
    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        return (1.0 - mask) * -1e4


class _Scaled(nn.Module):
    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.rsub(mask, 3, alpha=2) + (2.5 - mask.float())


@pytest.mark.parametrize("model", [_Hidden(), _Scaled()])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_a_number_minus_an_integer_mask_is_exported(
    tmp_path: Path, model: nn.Module, dtype: torch.dtype
) -> None:
    mask = torch.tensor([[1, 0, 1], [1, 1, 1]], dtype=dtype)
    path = export_onnx(
        model,
        {"mask": mask},
        tmp_path / "m.onnx",
        dynamic={"mask": {0: "batch"}},
        output_names=["y"],
        opset=20,
    )
    with runtimes.get("onnxruntime").load(path) as session:
        made = session.run({"mask": mask.numpy()})["y"]
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, model(mask).numpy())


class _Checked(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._check_tensor_all(x > 0)
        return x.sqrt()


def test_a_check_of_all_values_does_not_keep_a_model_from_export(tmp_path: Path) -> None:
    x = torch.rand(2, 3) + 1
    path = export_onnx(
        _Checked(),
        {"x": x},
        tmp_path / "m.onnx",
        dynamic={"x": {0: "batch"}},
        output_names=["y"],
        opset=20,
    )
    with runtimes.get("onnxruntime").load(path) as session:
        made = session.run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(made, x.sqrt().numpy(), rtol=1e-6)
