"""Attention and recurrent layers as PyTorch exports them, before and after a graph pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit.spec import Feeds

BATCH_AND_SEQUENCE = {0: "batch", 1: "sequence"}


def exported(
    module: nn.Module,
    examples: Mapping[str, torch.Tensor],
    folder: Path,
    dynamic: Mapping[int, str] | None = None,
) -> tuple[Path, Path]:
    """The ONNX file as exported, and as :func:`prepare_onnx` leaves it."""
    axes = dict.fromkeys(examples, dynamic) if dynamic else {}
    source = export_onnx(
        module, examples, folder / "source.onnx", dynamic=axes, output_names=["y"], opset=20
    )
    return source, prepare_onnx(source, folder / "prepared.onnx")


def unoptimized(model: Path | ir.Model, feeds: Feeds) -> np.ndarray:
    """The first output, from ONNX Runtime without any graph optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    content = str(model) if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))[0]


def operators(model: Path | ir.Model) -> Counter[str]:
    loaded = ir.load(model) if isinstance(model, Path) else model
    return Counter(node.op_type for node in loaded.graph)


def assert_same(one: Path | ir.Model, other: Path | ir.Model, cases: Sequence[Feeds]) -> None:
    """Both give the same within 1e-5, and something finite."""
    for feeds in cases:
        wanted = unoptimized(one, feeds)
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(unoptimized(other, feeds), wanted, rtol=1e-5, atol=1e-5)
