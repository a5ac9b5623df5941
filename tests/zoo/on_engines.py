"""What the tests of several models share: their graphs on other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx

from edgekit import runtimes
from edgekit.reference import reference_predict
from edgekit.spec import Feeds
from edgekit.workload import Workload

ENGINES = ("onnxruntime", "openvino")


def exported(workload: Workload, folder: Path) -> Path:
    """The uncompressed graph of a workload, as PyTorch writes it."""
    assert isinstance(workload.model, torch.nn.Module)
    return export_onnx(
        workload.model,
        {name: torch.as_tensor(value) for name, value in workload.example_inputs.items()},
        folder / "exported.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=20,
    )


def prepared(workload: Workload, folder: Path) -> Path:
    """The same, as a bundle has it."""
    return prepare_onnx(exported(workload, folder), folder / "model.onnx", state=workload.state)


def assert_same_on_engines(workload: Workload, feeds: Feeds, folder: Path, atol: float) -> None:
    """Each engine makes of ``feeds`` what PyTorch does, to ``atol``."""
    with reference_predict(workload) as predict:
        wanted = predict(feeds)
    graph = prepared(workload, folder)
    for engine in ENGINES:
        with runtimes.get(engine).load(graph) as session:
            made = session.run(feeds)
        for name, values in wanted.items():
            np.testing.assert_allclose(made[name], values, atol=atol, err_msg=engine)
