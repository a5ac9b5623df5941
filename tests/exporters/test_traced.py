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


class _Attending(nn.Module):
    """Attention without an axis of heads: a mask of as many axes, or one for all, or none."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        attend = nn.functional.scaled_dot_product_attention
        masked = attend(x, x, x, attn_mask=mask) + attend(x, x, x, mask[0])
        first = attend(x[0], x[0], x[0], is_causal=True)
        return masked + attend(x, x, x, scale=0.3) + first


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_attention_without_heads_is_exported(tmp_path: Path, engine: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, mask = torch.randn(3, 5, 4, generator=generator), torch.randn(3, 5, 5, generator=generator)
    path = export_onnx(
        _Attending(),
        {"x": x[:2], "mask": mask[:2]},
        tmp_path / "m.onnx",
        dynamic={"x": {0: "batch"}, "mask": {0: "batch"}},
        output_names=["y"],
        opset=20,
    )
    with runtimes.get(engine).load(path) as session:
        made = session.run({"x": x.numpy(), "mask": mask.numpy()})["y"]
    np.testing.assert_allclose(made, _Attending()(x, mask).numpy(), atol=1e-5)


class _ByBlocks(nn.Module):
    def __init__(self, *, causal: bool, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.causal = causal
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(
            x, x * 0.5, x + 1.0, attn_mask=self.mask, is_causal=self.causal
        )


_SEEN = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "attention",
    [
        _ByBlocks(causal=False),
        _ByBlocks(causal=True),
        _ByBlocks(causal=False, mask=_SEEN),
        _ByBlocks(causal=False, mask=(_SEEN > 0.3) | torch.eye(6, dtype=torch.bool)),
    ],
    ids=["plain", "causal", "bias", "mask"],
)
def test_attention_by_blocks_is_exported(tmp_path: Path, attention: nn.Module) -> None:
    path = export_onnx(
        attention,
        {"x": torch.randn(2, 2, 3, 6, 4)},
        tmp_path / "m.onnx",
        dynamic={"x": {0: "batch"}},
        output_names=["y"],
        opset=20,
    )
    x = torch.randn(5, 2, 3, 6, 4, generator=torch.Generator().manual_seed(1))
    with runtimes.get("onnxruntime").load(path) as session:
        made = session.run({"x": x.numpy()})["y"]
    np.testing.assert_allclose(made, attention(x).numpy(), rtol=1e-4, atol=1e-5)
