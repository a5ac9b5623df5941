"""The same model as every runtime loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from edgekit.exporters import ExportOptions, ShapeRange, get
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from tests.conftest import SHAPE

#: From the name of a runtime to the file that it loads.
Artifacts: TypeAlias = Callable[[str], Path]


@pytest.fixture(scope="session")
def program(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What PyTorch traces :func:`network` to."""
    folder = tmp_path_factory.mktemp("program")
    export_onnx(
        network,
        {"image": torch.zeros(1, *SHAPE)},
        folder / "exported.onnx",
        dynamic={"image": {0: "batch"}},
        output_names=["logits"],
        opset=20,
        program=folder / "network.pt2",
    )
    return folder / "network.pt2"


@pytest.fixture(scope="session")
def artifacts(built: Path, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Exported where a runtime asks for it first; for most tests of ONNX readers, as it is."""
    made = {"onnxruntime": built / "model.onnx", "openvino": built / "model.onnx"}
    folder = tmp_path_factory.mktemp("artifacts")
    shapes = {"image": ShapeRange((1, *SHAPE), (1, *SHAPE), (8, *SHAPE))}
    options = ExportOptions(None, shapes, program=program)

    def artifact(name: str) -> Path:
        if name not in made:
            made[name] = get(name).export(built / "model.onnx", folder / name, options)[0]
        return made[name]

    return artifact
