"""Blocks, padding and masks of window attention, against attention with a plain mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgekit.compress.attention.module import FullAttention
from edgekit.compress.attention.window import WindowAttention
from edgekit.compress.modules import count_macs

_CASES = {
    "length": st.integers(1, 23),
    "window": st.integers(1, 6),
    "global_tokens": st.integers(0, 3),
    "random_blocks": st.integers(0, 2),
    "causal": st.booleans(),
    "seed": st.integers(0, 3),
}


def _states(length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, 2, 2, length, 4, generator=generator).unbind())


def _masked(states: tuple[torch.Tensor, ...], allowed: torch.Tensor) -> torch.Tensor:
    """Attention with an (n, n) mask."""
    query, key, value = states
    scores = (query @ key.transpose(-1, -2)).masked_fill(~allowed, -1e4)
    return scores.softmax(-1) @ value


def _pattern(core: WindowAttention, length: int) -> torch.Tensor:
    """Which position may see which, (n, n), worked out pair by pair."""
    blocks = -(-length // core.window)
    slots, valid = core._slots(blocks, torch.device("cpu"))
    seen = [set(row[ok].tolist()) for row, ok in zip(slots, valid, strict=True)]
    allowed = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        for j in range(length):
            near = j // core.window in seen[i // core.window]
            everywhere = j < core.global_tokens or (i < core.global_tokens and not core.causal)
            allowed[i, j] = (near or everywhere) and (j <= i or not core.causal)
    return allowed


@given(**_CASES)
@settings(max_examples=60)
def test_it_equals_attention_with_a_mask_of_the_same_pattern(
    length: int, window: int, global_tokens: int, random_blocks: int, causal: bool, seed: int
) -> None:
    core = WindowAttention(
        window,
        global_tokens=min(global_tokens, window),
        random_blocks=random_blocks,
        causal=causal,
        seed=seed,
    )
    states = _states(length, seed)
    keep = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) < 0.7
    allowed = _pattern(core, length) & keep[:, None, None]
    sees_something = allowed.any(-1)[..., None]
    wanted = _masked(states, allowed)
    torch.testing.assert_close(core(*states, keep) * sees_something, wanted * sees_something)


@given(blocks=st.integers(1, 40), random_blocks=st.integers(0, 3), causal=st.booleans())
@settings(max_examples=40)
def test_no_block_is_seen_twice_and_each_sees_itself(
    blocks: int, random_blocks: int, causal: bool
) -> None:
    core = WindowAttention(2, random_blocks=random_blocks, causal=causal)
    slots, valid = core._slots(blocks, torch.device("cpu"))
    for own, (row, ok) in enumerate(zip(slots, valid, strict=True)):
        seen = row[ok].tolist()
        assert len(seen) == len(set(seen))
        assert own in seen
        assert all(0 <= one <= (own if causal else blocks - 1) for one in seen)


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_over_the_whole_sequence_is_full_attention(causal: bool) -> None:
    states = _states(9)
    keep = torch.ones(2, 9, dtype=torch.bool)
    keep[1, 6:] = False
    core = WindowAttention(9, global_tokens=2, random_blocks=1, causal=causal)
    wanted = FullAttention(causal=causal)(*states, keep)
    torch.testing.assert_close(core(*states, keep), wanted, rtol=1e-5, atol=1e-5)


def test_random_blocks_follow_the_seed() -> None:
    states = _states(40)
    one, same, other = (
        WindowAttention(2, random_blocks=2, seed=seed)(*states, None) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_a_far_position_reaches_others_only_through_a_global_token() -> None:
    query, key, value = _states(20)
    changed = value.clone()
    changed[:, :, 0] += 1.0

    def moved(global_tokens: int) -> torch.Tensor:
        core = WindowAttention(4, global_tokens=global_tokens)
        return (core(query, key, changed, None) - core(query, key, value, None)).abs()[:, :, 19]

    assert moved(0).max() == 0.0
    assert moved(1).min() > 0.0


class _Sized(nn.Module):
    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.core(x, x, x, None)


def test_cost_is_linear_in_the_length() -> None:
    def growth(core: nn.Module) -> float:
        short, long = (
            count_macs(_Sized(core), {"x": torch.randn(1, 2, length, 8)}) for length in (256, 512)
        )
        return long / short

    assert growth(WindowAttention(16, global_tokens=2, random_blocks=1)) < 2.3
    assert growth(FullAttention()) == 4.0


@pytest.mark.parametrize(("window", "global_tokens"), [(0, 0), (4, 5), (4, -1)])
def test_impossible_sizes_are_refused(window: int, global_tokens: int) -> None:
    with pytest.raises(ValueError, match="global tokens"):
        WindowAttention(window, global_tokens=global_tokens)
