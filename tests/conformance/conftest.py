"""Bundles and daemons that the clauses are checked against."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.targets import parse_targets
from edgekit.workload import Workload


class Pair(nn.Module):
    """Two inputs and two outputs, of two datatypes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, index: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.relu(self.linear(x)) + self.table(index.clamp(0, 3)).mean(1), index + 1


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of :class:`Pair` for ONNX Runtime."""
    torch.manual_seed(0)
    workload = Workload(
        name="pair",
        model=Pair().eval(),
        example_inputs={"index": torch.ones(1, 2, dtype=torch.int64), "x": torch.zeros(1, 4)},
        output_names=["scores", "next"],
    )
    path = tmp_path_factory.mktemp("pair") / "pair.edge"
    make_bundle(
        workload,
        path,
        recipe=load_recipe("fp32"),
        targets=parse_targets(["onnxruntime"], None),
        timing=Timing(rounds=(5, 5), seconds=0.2),
    )
    return path
