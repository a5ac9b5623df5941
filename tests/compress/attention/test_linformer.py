"""Learned means of keys and values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.attention.linformer import LinformerAttention
from edgekit.compress.attention.module import FullAttention
from edgekit.errors import WorkloadError


def _states(length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, 2, 2, length, 4, generator=generator).unbind())


@given(length=st.integers(1, 16), seed=st.integers(0, 20))
@settings(max_examples=30)
def test_of_full_rank_it_is_full_attention_whatever_the_length(length: int, seed: int) -> None:
    keep = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) < 0.7
    keep[:, 0] = True
    states = _states(length, seed)
    got = LinformerAttention(16, 16)(*states, keep)
    torch.testing.assert_close(got, FullAttention()(*states, keep), rtol=1e-5, atol=1e-5)


def test_segments_of_equal_keys_lose_nothing_before_any_training() -> None:
    query, key, value = _states(12)
    key, value = (one[:, :, ::3].repeat_interleave(3, 2) for one in (key, value))
    got = LinformerAttention(4, 12)(query, key, value, None)
    torch.testing.assert_close(got, FullAttention()(query, key, value, None))


@given(rank=st.integers(1, 12), length=st.integers(2, 12), kept=st.integers(1, 11))
@settings(max_examples=30)
def test_padding_changes_nothing(rank: int, length: int, kept: int) -> None:
    kept = min(kept, length)
    core = LinformerAttention(rank, 12)
    with torch.no_grad():  # as after training: every position in every mean
        for projection in core.parameters():
            projection.add_(torch.randn(12, rank, generator=torch.Generator().manual_seed(1)) / 9)
    query, key, value = _states(length)
    keep = (torch.arange(length) < kept).expand(2, -1)
    padded = core(query, key, value, keep)[:, :, :kept]
    alone = core(*(one[:, :, :kept] for one in (query, key, value)), None)
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_both_projections_learn() -> None:
    core = LinformerAttention(3, 12)
    core(*_states(10), None).square().sum().backward()
    for projection in core.parameters():
        assert projection.grad is not None
        assert projection.grad[:10].abs().sum() > 0


def test_a_longer_sequence_than_promised_is_refused() -> None:
    with pytest.raises(WorkloadError, match="13 positions is longer than max_length 12"):
        LinformerAttention(3, 12)(*_states(13), None)


@pytest.mark.parametrize("rank", [0, 13])
def test_impossible_ranks_are_refused(rank: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        LinformerAttention(rank, 12)
