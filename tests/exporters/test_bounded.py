"""Programs that are traced again with a largest size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from edgekit.exporters import ShapeRange
from edgekit.exporters.bounded import bounded
from edgekit.exporters.recurrent_ops import runnable, whole_layers
from torch import nn

from edgekit.errors import ExportError
from edgekit.programs import NamedProgram, input_specs
from edgekit.quiet import quiet


class Positions(nn.Module):
    """Takes at most ten tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(10, 4))

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return (x + self.embedding[: x.shape[1]]) * scale


class Pairs(nn.Module):
    """Takes an even number of rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0] // 2, 2 * x.shape[1])


def _program(
    model: nn.Module, x: torch.Tensor, *dynamic: int, **keywords: torch.Tensor
) -> NamedProgram:
    """Traced with these axes dynamic, which are called ``batch`` and ``dim_1``."""
    shapes = ({axis: torch.export.Dim.AUTO(min=1) for axis in dynamic},)
    whole = (*shapes, *({} for _ in keywords))
    with quiet(), whole_layers():
        program = torch.export.export(model.eval(), (x,), keywords, dynamic_shapes=whole)
    first, *others = input_specs(program)
    return NamedProgram(runnable(program), (replace(first, name="x"), *others), ())


def _upper(program: torch.export.ExportedProgram) -> list[int]:
    return sorted(int(bounds.upper) for bounds in program.range_constraints.values())


def test_a_dimension_gets_the_largest_size_and_the_result_stays() -> None:
    model = nn.Conv2d(3, 4, 3)
    named = _program(model, torch.zeros(2, 3, 8, 8), 0)
    program, ranges = bounded(named, {"x": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (64, 3, 8, 8))})
    assert ranges == {"batch": (1, 64)}
    assert _upper(program) == [64]
    x = torch.randn(17, 3, 8, 8)
    torch.testing.assert_close(program.module()(x), model(x))


def test_the_models_own_bound_is_kept_and_keywords_stay_keywords() -> None:
    named = _program(Positions(), torch.zeros(2, 3, 4), 0, 1, scale=torch.zeros(4))
    program, ranges = bounded(named, {"x": ShapeRange((1, 1, 4), (1, 3, 4), (8, 24, 4))})
    assert ranges == {"batch": (1, 8), "dim_1": (1, 10)}
    assert _upper(program) == [8, 10]


def test_what_the_model_unrolls_has_one_size() -> None:
    model = nn.LSTM(4, 8, batch_first=True)
    named = _program(model, torch.zeros(2, 3, 4), 0, 1)
    program, ranges = bounded(named, {"x": ShapeRange((1, 1, 4), (1, 3, 4), (8, 6, 4))})
    assert ranges == {"batch": (1, 8), "dim_1": (6, 6)}
    x = torch.randn(3, 6, 4)
    torch.testing.assert_close(program.module()(x)[0], model(x)[0])


def test_a_fixed_program_stays_as_it_is() -> None:
    named = _program(nn.ReLU(), torch.zeros(2, 3))
    assert bounded(named, {}) == (named.program, {})


def test_a_size_that_nobody_gave_is_asked_for() -> None:
    named = _program(nn.ReLU(), torch.zeros(2, 3), 0)
    with pytest.raises(ExportError, match=r"tensor 'x': dimension 'batch' has no largest size"):
        bounded(named, {})


def test_a_size_that_the_model_does_not_take_is_told() -> None:
    named = _program(Pairs(), torch.zeros(4, 3), 0)
    with pytest.raises(ExportError, match=r"largest size, batch 7: .*--range"):
        bounded(named, {"x": ShapeRange((1, 3), (4, 3), (7, 3))})
