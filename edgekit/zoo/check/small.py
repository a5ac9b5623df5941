"""Small models with random weights of any architecture that transformers has.

Every configuration class has defaults of a real, large model. Sizes in it are recognised by their
names and replaced by small ones that fit each other; so no list of per-model settings is needed.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

__all__ = ["small_config", "small_model"]

#: Patterns of names of settings, and the small value; the first that matches counts.
_SIZES: tuple[tuple[str, int], ...] = (
    (r"num_key_value_heads|num_kv_heads|n_head_kv|multi_query_group_num", 2),
    (r"(.*_)?(attention_heads|num_heads|n_heads?|heads|n_head)", 4),
    (r"(.*_)?(head_dim|kv_channels|d_kv|attention_head_size|rotary_dim)", 8),
    (r"(.*_)?(num_hidden_layers|num_layers|n_layers?|encoder_layers|decoder_layers|depth)", 2),
    (r"(.*_)?(num_blocks|num_hidden_blocks|num_encoder_blocks)", 2),
    (r"(.*_)?(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|hidden_dim|mlp_dim)", 64),
    (r"(.*_)?(vocab_size|vocab_size_or_config_json_file)", 96),
    (r"(.*_)?(max_position_embeddings|n_positions|max_(source|target)_positions|n_ctx)", 64),
    (r"(.*_)?(max_seq_len|seq_length)", 64),
    (r"(.*_)?image_size", 32),
    (r"(.*_)?patch_size", 8),
    (r"(.*_)?window_size", 2),
    (r"(.*_)?(num_(local_)?experts|n_routed_experts|moe_num_experts)", 4),
    (r"(.*_)?(num_experts_per_tok|top_k_experts|moe_topk)", 2),
    (r"num_queries", 5),
    (r"(.*_)?(hidden_size|d_model|n_embd|(embed|emb|model|projection|encoder)?_?dim)", 32),
    (r"(.*_)?(embedding_size|d_embed|width)", 32),
)  # fmt: skip

#: The same for settings with one value a stage.
_STAGES: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"(.*_)?(depths|layers_per_stage|num_blocks_per_stage)", (1, 1, 1, 1, 1, 1)),
    (r"(.*_)?(hidden_sizes|embed_dims|embed_dim|neck_hidden_sizes|dims)", (16, 32, 48, 64, 64, 64)),
    (r"(.*_)?num_(attention_)?heads", (2, 4, 4, 4, 4, 4)),
)

#: Settings without a default that models cannot do without.
_NEEDED = {"prediction_length": 4, "num_time_features": 2, "vocab_size": 96}
#: Standard deviation of weights that transformers does not draw at random.
_SPREAD = 0.02
#: Rotary frequencies of time, height and width, half a head in all.
_SECTIONS = [2, 1, 1]


def small_config(kind: str) -> PretrainedConfig:
    """The configuration of model type ``kind``, with small sizes.

    Raises:
        Exception: whatever transformers raises where the sizes do not fit each other.
    """
    return _small(CONFIG_MAPPING[kind])


def _small(cls: type[PretrainedConfig]) -> PretrainedConfig:
    default = cls()
    names = set(inspect.signature(cls.__init__).parameters) | set(default.to_dict())
    changes: dict[str, Any] = {}
    for name in sorted(names):
        value = getattr(default, name, None)
        if isinstance(value, PretrainedConfig):
            changes[name] = _small(type(value))
        elif not isinstance(value, bool):
            found = _smaller(name, value)
            if found is not None:
                changes[name] = found
    _fit(changes, default, names)
    return cls(**changes)


def _fit(changes: dict[str, Any], default: PretrainedConfig, names: set[str]) -> None:
    """Settings that follow from others."""
    if "kv_lora_rank" in names and "num_key_value_heads" in changes:  # latent attention shares none
        changes["num_key_value_heads"] = changes["num_attention_heads"]
    if {"window_size", "depths", "image_size"} <= names:  # the last stage still has a window
        changes["image_size"] = 64
    limit = changes.get("vocab_size") or getattr(changes.get("text_config"), "vocab_size", None)
    if limit is None:
        return
    for name in names:
        token = getattr(default, name, None)
        special = name.endswith(("_token_id", "_token_index"))
        if special and isinstance(token, int) and token >= limit:
            changes[name] = sum(map(ord, name)) % 20 + limit - 21


def _smaller(name: str, value: Any) -> Any:
    if name in _NEEDED and not value:
        return _NEEDED[name]
    if isinstance(value, int):
        return next((small for p, small in _SIZES if re.fullmatch(p, name) and value > small), None)
    if isinstance(value, dict) and "mrope_section" in value:
        return {**value, "mrope_section": _SECTIONS}
    if isinstance(value, list | tuple) and value and all(isinstance(x, int) for x in value):
        for pattern, stages in _STAGES:
            if re.fullmatch(pattern, name):
                return [min(a, b) for a, b in zip(value, stages, strict=False)]
    return None


def small_model(kind: str) -> nn.Module:
    """The base model of that type with random weights, in eval mode; it returns no cache.

    Weights that start alike, such as zeros, are random, too: a router of zeros prefers no expert,
    and which one is taken is then up to each engine.
    """
    torch.manual_seed(0)
    model: nn.Module = AutoModel.from_config(small_config(kind))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point() and weight.numel() > 1 and weight.min() == weight.max():
                weight.add_(torch.randn_like(weight), alpha=_SPREAD)
    configs: list[Any] = [getattr(part, "config", None) for part in model.modules()]
    for config in configs:
        if hasattr(config, "use_cache"):
            config.use_cache = False
    return model.eval()
