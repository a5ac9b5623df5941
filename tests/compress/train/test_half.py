"""Training in bfloat16 comes out where training in float32 does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgekit.compress.train.half import reduced_precision
from edgekit.zoo import lstm_digits, mlp_digits
from tests.compress.train.training import same, small_student, train

CPU = torch.device("cpu")


class _Dtypes(TorchFunctionMode):
    """Sees what attention is computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is functional.scaled_dot_product_attention:
            self.seen += [args[0].dtype, made.dtype]
        return made


def test_products_are_in_bfloat16_and_attention_is_not() -> None:
    x = torch.randn(2, 4, 6, 8)
    with _Dtypes() as inner, reduced_precision(CPU):
        made = functional.linear(x, torch.randn(8, 8))
        assert made.dtype == torch.bfloat16
        attended = functional.scaled_dot_product_attention(made, made, value=made)
    assert attended.dtype == torch.bfloat16
    assert inner.seen == [torch.float32, torch.float32]
    assert functional.linear(x, torch.randn(8, 8)).dtype == torch.float32


def test_attention_is_as_without_it() -> None:
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind()
    plain = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    with reduced_precision(CPU):
        same_call = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(plain, same_call)


@pytest.mark.parametrize("distill", [None, {"features": ["1"]}], ids=["task", "distilled"])
def test_it_learns_as_well_and_the_same_each_time(distill: dict[str, Any] | None) -> None:
    workload = mlp_digits.workload()
    keys = {"distill": distill, "epochs": 10}
    _, exact = train(workload, None, **keys)
    first, found = train(workload, None, **keys, bfloat16=True)
    assert found.before == exact.before  # judged in float32
    assert exact.before is not None
    assert exact.after is not None
    assert found.after == pytest.approx(exact.after, abs=0.03 * exact.before)
    assert all(parameter.dtype == torch.float32 for parameter in first.parameters())
    again, _ = train(workload, None, **keys, bfloat16=True)
    assert same(first, again)
    other, _ = train(workload, None, **keys)
    assert not same(first, other)


def test_recurrent_layers_train_in_it() -> None:
    (entry,) = lstm_digits.ENTRIES
    _, found = train(entry.workload(), None, entry.build(), epochs=1, distill={}, bfloat16=True)
    assert found.before is not None
    assert found.after is not None
    assert found.after < found.before


def test_an_lstm_after_a_layer_in_bfloat16_has_its_gradient() -> None:
    first, lstm = nn.Linear(8, 8), nn.LSTM(8, 4, batch_first=True)
    x = torch.randn(2, 5, 8)
    with reduced_precision(CPU):
        made = first(x)
        states = lstm(made)[0]
    assert made.dtype == torch.bfloat16
    states.float().square().sum().backward()
    assert first.weight.grad is not None
    torch.testing.assert_close(states.float(), lstm(first(x))[0], atol=0.02, rtol=0.02)


def test_a_student_without_a_teacher_has_its_dropout() -> None:
    """And one that learns from a teacher has not, since the teacher has none."""
    modes: list[bool] = []
    for distill in (None, {}):
        student = small_student(dropout=True)
        (dropout,) = (module for module in student.modules() if isinstance(module, nn.Dropout))
        handle = dropout.register_forward_hook(
            lambda module, _, __: modes.append(module.training and torch.is_grad_enabled())
        )
        train(mlp_digits.workload(), None, student, epochs=1, distill=distill)
        handle.remove()
        assert any(modes) == (distill is None)
        modes.clear()
