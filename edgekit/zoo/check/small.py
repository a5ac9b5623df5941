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

__all__ = ["example_inputs", "small_config", "small_model"]

#: Patterns of names of settings, and the small value; the first that matches counts.
_SIZES: tuple[tuple[str, int], ...] = (
    (r"num_key_value_heads|num_kv_heads|n_head_kv|multi_query_group_num", 2),
    (r"(.*_)?(attention_heads|num_heads|n_heads?|heads|n_head)", 4),
    (r"(.*_)?(head_dim|kv_channels|d_kv|attention_head_size)", 8),
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

_BATCH, _TOKENS, _DECODED = 2, 8, 6
_SAMPLES, _FRAMES = 4000, 128


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
    if "use_cache" in names:
        changes["use_cache"] = False
    limit = changes.get("vocab_size")
    if limit is not None:
        for name in names:
            token = getattr(default, name, None)
            if name.endswith("_token_id") and isinstance(token, int) and token >= limit:
                changes[name] = sum(map(ord, name)) % 20 + limit - 21
    return cls(**changes)


def _smaller(name: str, value: Any) -> Any:
    if isinstance(value, int):
        return next((small for p, small in _SIZES if re.fullmatch(p, name) and value > small), None)
    if isinstance(value, list | tuple) and value and all(isinstance(x, int) for x in value):
        for pattern, stages in _STAGES:
            if re.fullmatch(pattern, name):
                return [min(a, b) for a, b in zip(value, stages, strict=False)]
    return None


def small_model(kind: str) -> nn.Module:
    """The base model of that type with random weights, in eval mode."""
    torch.manual_seed(0)
    config = small_config(kind)
    model: nn.Module = AutoModel.from_config(config)
    return model.eval()


def example_inputs(model: nn.Module) -> dict[str, torch.Tensor]:
    """What ``forward`` needs, by parameter, batch 2."""
    config: Any = model.config
    main = {str(model.main_input_name)}
    parameters = inspect.signature(model.forward).parameters
    if _multimodal(config):
        main |= {"input_ids", "pixel_values"}
    if getattr(config, "is_encoder_decoder", False):
        main |= {"decoder_input_ids"}
    wanted = [name for name, one in parameters.items() if name in main or _required(one)]
    generator = torch.Generator().manual_seed(0)
    made = {name: _input(name, config, generator) for name in wanted}
    if "input_ids" in made and "attention_mask" in parameters:
        made["attention_mask"] = torch.ones_like(made["input_ids"])
    return {name: made[name] for name in parameters if name in made}


def _required(parameter: inspect.Parameter) -> bool:
    return (
        parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _multimodal(config: PretrainedConfig) -> bool:
    return hasattr(config, "text_config") and hasattr(config, "vision_config")


def _input(name: str, config: PretrainedConfig, generator: torch.Generator) -> torch.Tensor:
    if name in {"input_ids", "decoder_input_ids"}:
        length = _TOKENS if name == "input_ids" else _DECODED
        return torch.randint(3, 70, (_BATCH, length), generator=generator)
    shape = _shape(name, config)
    return torch.randn(shape, generator=generator)


def _shape(name: str, config: PretrainedConfig) -> tuple[int, ...]:
    """Shape of a floating-point input."""
    if name == "pixel_values":
        size = _found(config, "image_size", 32)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return _BATCH, _found(config, "num_channels", 3), height, width
    if name == "pixel_values_videos":
        size = _found(config, "image_size", 32)
        return (
            _BATCH,
            _found(config, "num_frames", 4),
            _found(config, "num_channels", 3),
            size,
            size,
        )
    if name == "input_features":
        frames = 2 * _found(config, "max_source_positions", _FRAMES // 2)
        return _BATCH, _found(config, "num_mel_bins", 80), frames
    if name == "past_values":
        return _BATCH, _found(config, "context_length", 32), _found(config, "num_input_channels", 1)
    if name == "input_values":
        return _BATCH, _SAMPLES
    raise NotImplementedError(f"no example for input {name!r}")


def _found(config: PretrainedConfig, name: str, default: Any) -> Any:
    """A setting of the configuration, or of its part for images or sound."""
    for part in (
        config,
        *(getattr(config, one, None) for one in ("vision_config", "audio_config")),
    ):
        value = getattr(part, name, None)
        if value is not None:
            return value
    return default
