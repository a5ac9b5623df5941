"""Small transformers of several libraries, and how to compare what was made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, ViTConfig, ViTModel

from edgekit.workload import Workload

LENGTH = 12
_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


class First(nn.Module):
    """The first output of a model that takes one or two inputs by name."""

    def __init__(self, model: nn.Module, *names: str, **keywords: Any) -> None:
        super().__init__()
        self.model, self.names, self.keywords = model, names, keywords

    def forward(self, first: torch.Tensor, second: torch.Tensor | None = None) -> torch.Tensor:
        given = dict(zip(self.names, (first, second), strict=False))
        return self.model(**given, **self.keywords)[0]


class Encoder(nn.Module):
    """PyTorch's own encoder, with a mask that is True for what may be seen."""

    def __init__(self, *, batch_first: bool = True, nested: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested)
        self.batch_first = batch_first

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = x if self.batch_first else x.transpose(0, 1)
        states = self.encoder(states, src_key_padding_mask=mask == 0)
        return states if self.batch_first else states.transpose(0, 1)


def states(batch: int = 2, length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Random states with padding behind them."""
    generator = torch.Generator().manual_seed(batch * 100 + length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, length // 2 + 1 :] = 0
    return {"x": torch.randn(batch, length, 16, generator=generator), "mask": mask}


def tokens(batch: int = 2, length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Random tokens with padding behind them."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(0, 50, (batch, length), generator=generator)
    return {"input_ids": ids, "attention_mask": states(batch, length)["mask"]}


def images() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}


def bert(layers: int = 2, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(**(_SIZES | {"num_hidden_layers": layers}), vocab_size=50, **options)
    return First(BertModel(config), "input_ids", "attention_mask").eval()


def vit(layers: int = 2) -> nn.Module:
    torch.manual_seed(0)
    config = ViTConfig(**(_SIZES | {"num_hidden_layers": layers}), image_size=16, patch_size=4)
    return First(ViTModel(config), "pixel_values").eval()


def sharp_vit() -> nn.Module:
    """One whose attention chooses; as initialized it averages over everything."""
    model = vit()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(20.0 if "q_proj" in name or "k_proj" in name else 5.0)
    return model


def gpt2(layers: int = 2, *, use_cache: bool = False) -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=16, n_layer=layers, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0
    )
    return First(GPT2Model(config), "input_ids", "attention_mask", use_cache=use_cache).eval()


def encoder(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return Encoder(**options).eval()


def workload(model: nn.Module, inputs: dict[str, torch.Tensor], **options: Any) -> Workload:
    options.setdefault("dynamic_shapes", {})
    return Workload("tiny", model, inputs, **options)


def difference(one: nn.Module, other: nn.Module, inputs: dict[str, torch.Tensor]) -> float:
    """Largest difference of the outputs where the input is no padding."""
    mask = inputs.get("mask", inputs.get("attention_mask"))
    with torch.no_grad():
        change = (one(*inputs.values()) - other(*inputs.values())).abs()
    return float(change.max() if mask is None else (change * mask[..., None]).max())
