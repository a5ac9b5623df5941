"""Attention by blocks sees what it says it sees, and is what full attention with a mask is."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edgekit.zoo import local_global, sparse_attention, sparse_transformer
from edgekit.zoo._encoder import Attention
from edgekit.zoo._recall import ASKED, LENGTH, questions

_TOKENS = ASKED + LENGTH


def _longformer() -> torch.Tensor:
    near = torch.arange(LENGTH)
    seen = torch.ones(_TOKENS, _TOKENS, dtype=torch.bool)
    seen[ASKED:, ASKED:] = (near[:, None] - near[None]).abs() <= 16
    return seen


def _bigbird(drawn: torch.Tensor) -> torch.Tensor:
    blocks = torch.arange(LENGTH // 16)
    near = (blocks[:, None] - blocks[None]).abs() <= 1
    near[blocks[:, None], drawn] = True
    seen = torch.ones(_TOKENS, _TOKENS, dtype=torch.bool)
    seen[ASKED:, ASKED:] = near.repeat_interleave(16, 0).repeat_interleave(16, 1)
    return seen


def _window() -> torch.Tensor:
    near = torch.arange(_TOKENS)
    return (near[:, None] - near[None]).abs() <= 8


def _strided(*, row: bool) -> torch.Tensor:
    back = torch.arange(400)[:, None] - torch.arange(400)[None]
    return (back >= 0) & ((back <= 20) if row else (back % 20 == 0))


def _reaches(layer: Attention, tokens: int) -> torch.Tensor:
    """Which token changes which other one."""
    x = torch.randn(1, tokens, layer.out.in_features)
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    with torch.no_grad():
        before = layer(x)
        for index in range(tokens):
            changed = x.clone()
            changed[:, index] += 50.0
            seen[:, index] = ((layer(changed) - before).abs() > 0).any(2)[0]
    return seen


def test_a_longformer_layer_sees_its_window_and_the_questions() -> None:
    torch.manual_seed(0)
    layer = sparse_attention._Longformer()
    layer.near.table.data.zero_()
    assert torch.equal(_reaches(layer, _TOKENS), _longformer())


def test_a_bigbird_layer_sees_its_window_what_is_drawn_and_the_questions() -> None:
    torch.manual_seed(0)
    layer = sparse_attention._BigBird()
    layer.near.table.data.zero_()
    assert isinstance(layer.drawn, torch.Tensor)
    assert torch.equal(_reaches(layer, _TOKENS), _bigbird(layer.drawn))


def test_a_local_layer_sees_its_window() -> None:
    torch.manual_seed(0)
    layer = local_global._Local()
    layer.near.table.data.zero_()
    assert torch.equal(_reaches(layer, _TOKENS), _window())


def test_a_strided_layer_sees_the_row_before_and_its_column() -> None:
    torch.manual_seed(0)
    seen = _reaches(sparse_transformer._Strided(), 400)
    assert torch.equal(seen, _strided(row=True) | _strided(row=False))


def test_strided_attention_by_blocks_is_full_attention_with_the_mask() -> None:
    torch.manual_seed(0)
    layer = sparse_transformer._Strided()
    parts = [torch.randn(2, 4, 400, 8) for _ in range(3)]
    got = layer.mix(*parts)
    for heads, row in ((slice(0, 2), True), (slice(2, 4), False)):
        wanted = functional.scaled_dot_product_attention(
            *(part[:, heads] for part in parts), attn_mask=_strided(row=row)
        )
        torch.testing.assert_close(got[:, heads], wanted)


@pytest.mark.parametrize("entry", sparse_attention.ENTRIES, ids=lambda entry: entry.name)
def test_no_score_of_all_tokens_with_all_is_computed(
    entry: sparse_attention.Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = []
    plain = functional.scaled_dot_product_attention

    def counting(query: torch.Tensor, key: torch.Tensor, *rest: object, **how: object) -> object:
        scores.append(query[0, ..., 0].numel() * key.shape[-2])
        return plain(query, key, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counting)
    entry.build()(questions(1, 0)[0])
    assert sum(scores) < 0.4 * 2 * 2 * _TOKENS**2  # layers, heads


def test_what_is_asked_is_told_once_and_answered() -> None:
    tokens, answers = questions(4, 0)
    for sequence, answer in zip(tokens, answers, strict=True):
        keys, values = sequence[ASKED::2], sequence[ASKED + 1 :: 2]
        for key, value in zip(sequence[:ASKED], answer, strict=True):
            (place,) = (keys == key).all(1).nonzero()
            assert torch.equal(values[place[0]], value)


def test_a_pixel_is_told_by_those_before_it_only() -> None:
    model = sparse_transformer.workload().model
    pixels = torch.zeros(1, 400)
    changed = pixels.clone()
    changed[:, 217] = 1.0
    with torch.no_grad():
        differs = (model(pixels) != model(changed))[0].nonzero().squeeze(1)
    assert int(differs.min()) == 218
