"""Efficient attention on ONNX Runtime and OpenVINO, at lengths that it was not exported with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino
import pytest
import torch
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit.compress.attention.recipe_pass import EfficientAttention
from edgekit.compress.base import ModuleContext
from edgekit.zoo import minilm
from tests.compress.attention.models import (
    bert,
    encoder,
    gpt2,
    images,
    states,
    tokens,
    vit,
    workload,
)
from tests.exporters.blocks import unoptimized

_AXES = {0: "batch", 1: "sequence"}
_SHAPES = [(1, 1), (3, 4), (1, 9), (2, 17)]


def _exported(
    model: nn.Module, inputs: dict[str, torch.Tensor], folder: Path, **keys: object
) -> tuple[nn.Module, Path]:
    made = workload(model, inputs, dynamic_shapes=dict.fromkeys(inputs, _AXES))
    step = EfficientAttention(type="efficient-attention", **keys)
    changed = step.apply(made, ModuleContext()).model
    source = export_onnx(
        changed, inputs, folder / "s.onnx", dynamic=made.dynamic, output_names=["y"], opset=20
    )
    return changed, prepare_onnx(source, folder / "p.onnx")


def _openvino(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return next(iter(openvino.Core().compile_model(str(path), "CPU", exact)(feeds).values()))


_CASES = {
    "encoder, window": (encoder(), states, {"window": 4, "globals": 2}),
    "all of it": (encoder(), states, {"window": 4, "globals": 2, "random": 1}),
    "encoder, linformer": (
        encoder(),
        states,
        {"kind": "linformer", "rank": 5, "max_length": 20},
    ),
    "bert, window": (bert(1), tokens, {"window": 4}),
    "gpt2, window": (gpt2(1), tokens, {"window": 4, "random": 1}),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.startswith("encoder") else pytest.mark.slow)
        for name in _CASES
    ],
)
def test_both_engines_agree_with_the_module_at_any_length(name: str, tmp_path: Path) -> None:
    model, make, keys = _CASES[name]
    changed, path = _exported(model, make(), tmp_path, **keys)
    for batch, length in _SHAPES:
        inputs = make(batch, length)
        with torch.no_grad():
            wanted = changed(*inputs.values()).numpy()
        feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
        for got in (unoptimized(path, feeds), _openvino(path, feeds)):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_fixed_length_stays_fixed(tmp_path: Path) -> None:
    step = EfficientAttention(type="efficient-attention", window=4, random=1)
    changed = step.apply(workload(vit(1), images()), ModuleContext()).model
    source = export_onnx(
        changed, images(), tmp_path / "s.onnx", dynamic={}, output_names=["y"], opset=20
    )
    prepared = prepare_onnx(source, tmp_path / "p.onnx")
    shapes = [out.shape for node in ir.load(prepared).graph for out in node.outputs]
    assert all(isinstance(dim, int) for shape in shapes if shape is not None for dim in shape)
    with torch.no_grad():
        wanted = changed(*images().values()).numpy()
    got = unoptimized(prepared, {"pixel_values": images()["pixel_values"].numpy()})
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_minilm_with_windows_runs_on_both_engines(tmp_path: Path) -> None:
    made = minilm.workload()
    assert isinstance(made.model, nn.Module)
    del made.model.get_submodule("encoder.encoder.layer")[2:]  # of six, for time
    inputs = dict(made.example_inputs)
    changed, path = _exported(made.model, inputs, tmp_path, window=8)
    feeds = next(iter(made.feeds()))
    with torch.no_grad():
        wanted = changed(*(torch.as_tensor(feeds[name]) for name in inputs)).numpy()
    for got in (unoptimized(path, feeds), _openvino(path, feeds)):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
