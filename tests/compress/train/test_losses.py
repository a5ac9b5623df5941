"""Each loss is what its formula says, and 0 where student and teacher agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgekit.compress.train import losses
from edgekit.compress.train.taps import attention_probabilities, tap


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 20.0))
def test_kl_is_that_of_the_softened_scores(seed: int, temperature: float) -> None:
    student, teacher = _random(4, 7, seed=seed), _random(4, 7, seed=seed + 1)
    got, wanted = (torch.softmax(x.double() / temperature, 1) for x in (student, teacher))
    expected = (wanted * (wanted / got).log()).sum(1).mean() * temperature**2
    torch.testing.assert_close(
        losses.kl(student, teacher, temperature, -1).double(), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.kl(x, x + 3.0, 4.0, 1),  # scores count up to a constant
        lambda x: losses.relative_mse(x, x),
        lambda x: losses.cosine(2.0 * x, x),
        lambda x: losses.feature_map_distance(x.repeat(1, 3, 1, 1), x),
        lambda x: losses.attention_divergence(x.softmax(-1), x.softmax(-1)),
    ],
)
def test_those_who_agree_have_no_loss(loss: object) -> None:
    assert callable(loss)
    assert float(loss(_random(2, 3, 4, 5))) == pytest.approx(0.0, abs=1e-6)


def test_relative_mse_of_zeros_is_one_whatever_the_scale() -> None:
    teacher = _random(8, 5)
    for scale in (1e-4, 1.0, 1e4):
        assert float(losses.relative_mse(teacher * 0, teacher * scale)) == pytest.approx(1.0)
    assert torch.isfinite(losses.relative_mse(teacher, teacher * 0))


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_recorded_attention_is_what_the_fused_kernel_computes(mask: str) -> None:
    query, key, value = (_random(2, 4, 6, 8, seed=seed) for seed in range(3))
    allowed = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    allowed[0, :, :, 4:] = False
    options = {
        "none": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": allowed, "scale": 0.3},
        "float": {"attn_mask": torch.zeros(2, 1, 6, 6).masked_fill(~allowed, -torch.inf)},
    }[mask]
    probabilities = attention_probabilities(query, key, value, **options)
    wanted = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(probabilities @ value, wanted, rtol=1e-4, atol=1e-5)


def test_grouped_queries_share_keys() -> None:
    query, key = _random(2, 4, 6, 8), _random(2, 2, 6, 8, seed=1)
    wanted = functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    probabilities = attention_probabilities(query, key, key, enable_gqa=True)
    got = probabilities @ key.repeat_interleave(2, 1)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_tap_leaves_no_hook_even_when_forward_fails() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(5, 2))
    with pytest.raises(RuntimeError):
        tap(model, [torch.ones(1, 3)], ["0", "1"], attention=True)
    assert not any(module._forward_hooks for module in model.modules())
