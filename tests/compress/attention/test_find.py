"""Which attention is understood, and why another is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, SwinConfig, SwinModel, T5Config, T5EncoderModel

from edgekit.compress.attention.find import find_attention
from edgekit.compress.attention.recipe_pass import EfficientAttention
from edgekit.compress.base import ModuleContext
from tests.compress.attention.models import (
    LENGTH,
    First,
    bert,
    encoder,
    gpt2,
    images,
    states,
    tokens,
    vit,
    workload,
)


@pytest.mark.parametrize(
    ("model", "inputs", "causal"),
    [(bert(), tokens(), False), (vit(), images(), False), (gpt2(), tokens(), True)],
)
def test_attention_of_transformers_is_understood(
    model: nn.Module, inputs: dict[str, torch.Tensor], causal: bool
) -> None:
    found = find_attention(model, inputs)
    assert len(found) == 2
    assert all(one.block is not None and one.block.causal is causal for one in found)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_of_pytorch_is_understood(batch_first: bool) -> None:
    (found,) = find_attention(encoder(batch_first=batch_first), states())
    assert found.block is not None
    assert found.block.batch_first is batch_first
    assert found.length == LENGTH


def test_a_causal_mask_is_noticed() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.attention(x, x, x, attn_mask=mask)[0]

    (found,) = find_attention(Causal().eval(), {"x": states()["x"]})
    assert found.block is not None
    assert found.block.causal


class _Own(nn.Module):
    """Somebody's attention: one packed layer, a tensor returned, perhaps a bias of scores."""

    def __init__(self, bias: float = 0.0, *, heads: bool = True) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        if heads:
            self.num_heads = 2
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, _ = x.shape
        query, key, value = self.qkv(x).view(batch, steps, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / 8**0.5
        distance = torch.arange(steps)[:, None] - torch.arange(steps)
        weights = (scores - self.bias * distance.abs()).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


def _why_not(model: nn.Module, *inputs: torch.Tensor) -> str:
    found = find_attention(model.eval(), dict(enumerate(inputs)))
    assert found[-1].block is None
    return found[-1].why_not


def test_a_class_that_nobody_knows_is_understood_by_what_it_computes() -> None:
    (found,) = find_attention(_Own().eval(), {"x": states()["x"]})
    assert found.block is not None


def test_a_bias_of_the_scores_is_noticed_by_what_it_computes() -> None:
    assert "something else than plain self-attention" in _why_not(_Own(0.1), states()["x"])


def test_a_module_without_head_count_is_not_understood() -> None:
    assert "head count" in _why_not(_Own(heads=False), states()["x"])


def test_attention_that_is_never_called_is_not_understood() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = _Own()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert "does not call it" in _why_not(Idle(), states()["x"])


def test_attention_to_another_sequence_is_not_understood() -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x[:, :3], x[:, :3])[0]

    assert "another sequence" in _why_not(Cross(), states()["x"])


def test_fewer_keys_than_queries_are_noticed() -> None:
    class Reduced(_Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x[:, ::2]).repeat_interleave(2, 1)

    assert "something else" in _why_not(Reduced(), states()["x"])


def test_states_of_an_image_are_not_understood() -> None:
    class Image(_Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(1, 2)).view(x.shape)

    assert "shape (batch, n, width)" in _why_not(Image(), torch.randn(2, 3, 4, 16))


def test_efficient_attention_is_not_replaced_again() -> None:
    made = workload(vit(), images())
    step = EfficientAttention(type="efficient-attention", window=32)
    changed = step.apply(made, ModuleContext()).model
    assert all(one.block is None for one in find_attention(changed, images()))


def test_keys_of_another_width_are_not_understood() -> None:
    attention = nn.MultiheadAttention(16, 2, kdim=8, vdim=8, batch_first=True)

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x[..., :8], x[..., :8])[0]

    assert "different widths" in _why_not(Wide(), states()["x"])


def test_rotary_positions_caches_and_position_biases_are_named() -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    llama = First(LlamaModel(LlamaConfig(num_hidden_layers=1, **sizes)), "input_ids")
    assert "position_embeddings" in _why_not(llama, tokens()["input_ids"])
    assert "past_key_values" in _why_not(gpt2(use_cache=True), *tokens().values())
    t5 = T5EncoderModel(T5Config(d_model=16, d_kv=8, num_layers=2, num_heads=2, vocab_size=50))
    assert "position_bias" in _why_not(First(t5, "input_ids"), tokens()["input_ids"])
    swin = SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1], num_heads=[2], window_size=4
    )
    assert "relative_position_bias" in _why_not(
        First(SwinModel(swin), "pixel_values"), images()["pixel_values"]
    )


def test_the_model_is_as_before() -> None:
    model = bert()
    before = {name: sorted(vars(module)) for name, module in model.named_modules()}
    find_attention(model, tokens())
    assert {name: sorted(vars(module)) for name, module in model.named_modules()} == before
    assert not any(module._forward_hooks for module in model.modules())
