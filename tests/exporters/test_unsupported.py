from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from edgekit.exporters.rewrites import REWRITES
from edgekit.exporters.torch_onnx import _convert, export_onnx, quiet
from torch import nn

from edgekit import runtimes
from edgekit.errors import UnsupportedOperatorError

Function = Callable[[torch.Tensor], torch.Tensor]
N = 4
X = torch.rand(N, N, generator=torch.Generator().manual_seed(0)) + 0.1
SEQUENCE = torch.linspace(0, 1, 5)
INDEX = torch.tensor([3, 1])
BELOW = torch.ones(N, N).tril().bool()
PAIRS = torch.triu_indices(N, N, 1)

#: What cannot be exported, and the rewrite that the table gives for it.
CASES: dict[str, tuple[Function, Function]] = {
    "aten.kthvalue": (
        lambda x: x.kthvalue(2, 1).values,
        lambda x: x.sort(1).values.select(1, 2 - 1),
    ),
    "aten.median": (
        lambda x: x.median(1).values,
        lambda x: x.sort(1).values.select(1, (x.shape[1] - 1) // 2),
    ),
    "aten.cumprod": (
        lambda x: x.cumprod(1),
        lambda x: torch.where(BELOW, x[..., None, :], 1.0).prod(-1),
    ),
    "aten.cummax": (
        lambda x: x.cummax(1).values,
        lambda x: torch.where(BELOW, x[..., None, :], -torch.inf).amax(-1),
    ),
    "aten.cummin": (
        lambda x: x.cummin(1).values,
        lambda x: torch.where(BELOW, x[..., None, :], torch.inf).amin(-1),
    ),
    "aten.searchsorted": (
        lambda x: torch.searchsorted(SEQUENCE, x),
        lambda x: (x[..., None] > SEQUENCE).sum(-1),
    ),
    "aten.isin": (
        lambda x: torch.isin(x, X.flatten()),
        lambda x: (x[..., None] == X.flatten()).any(-1),
    ),
    "aten.cdist": (
        lambda x: torch.cdist(x, X),
        lambda x: ((x[..., :, None, :] - X[..., None, :, :]) ** 2).sum(-1).sqrt(),
    ),
    "aten.pdist": (
        nn.functional.pdist,
        lambda x: ((x[PAIRS[0]] - x[PAIRS[1]]) ** 2).sum(-1).sqrt(),
    ),
    "aten.hypot": (lambda x: torch.hypot(x, X), lambda x: (x * x + X * X).sqrt()),
    "aten.put": (
        lambda x: x.put(INDEX, X[0, :2]),
        lambda x: x.flatten().scatter(0, INDEX, X[0, :2]).reshape(x.shape),
    ),
    "aten.rrelu": (
        lambda x: nn.functional.rrelu(x - 0.5, 0.1, 0.3),
        lambda x: nn.functional.leaky_relu(x - 0.5, (0.1 + 0.3) / 2),
    ),
}


class Apply(nn.Module):
    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function(x) for function in self.functions)


def _export(model: nn.Module, path: Path, outputs: list[str]) -> Path:
    return export_onnx(model, {"x": X}, path, dynamic={}, output_names=outputs, opset=20)


def test_every_rewrite_can_be_exported_and_computes_the_same(tmp_path: Path) -> None:
    assert CASES.keys() == REWRITES.keys()
    model = Apply([rewritten for _, rewritten in CASES.values()])
    path = _export(model, tmp_path / "m.onnx", list(CASES))
    with runtimes.get("onnxruntime").load(path) as session:
        got = session.run({"x": X.numpy()})
    for name, (written, _) in CASES.items():
        np.testing.assert_allclose(got[name], written(X).numpy(), rtol=1e-5, err_msg=name)


class Growth(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumprod(1)


def test_the_line_that_was_written_is_told_with_the_rewrite(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        _export(nn.Sequential(nn.ReLU(), Growth()), tmp_path / "m.onnx", ["y"])
    error = caught.value
    assert error.operator == "aten.cumprod"  # which the converter knows as prims.prod
    assert error.source == f"{__file__}:{Growth.forward.__code__.co_firstlineno + 1}"
    assert str(error) == (
        f"{error.source}, module 1 (Growth): operator aten.cumprod has no ONNX counterpart. "
        f"Write {REWRITES['aten.cumprod']}."
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_what_the_table_has_is_refused_without_it(name: str) -> None:
    program = torch.export.export(Apply([CASES[name][0]]), (X,))
    with pytest.raises(UnsupportedOperatorError) as caught, quiet():
        _convert(program, ["x"], ["y"], 20)
    assert caught.value.rewrite == REWRITES[name]
    assert caught.value.operator == name
