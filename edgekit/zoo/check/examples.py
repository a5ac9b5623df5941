"""Inputs for any architecture of transformers, of the shapes that its configuration tells."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

__all__ = ["FAMILIES", "example_inputs", "family_of"]

#: Beginnings of the names of inputs, by what they hold.
_KINDS = {
    "text": ("input_ids",),
    "vision": ("pixel_values",),
    "audio": ("input_features", "input_values", "audio_values"),
    "time series": ("past_values",),
}
FAMILIES = (*_KINDS, "multimodal")

_BATCH, _TOKENS, _DECODED, _PADDED = 2, 8, 6, 2
_SAMPLES, _FRAMES = 4000, 128
#: Inputs that a model makes up itself, at random, unless they are given.
_RANDOM = frozenset({"noise"})


def example_inputs(model: nn.Module) -> dict[str, torch.Tensor]:
    """What ``forward`` needs, by parameter, batch 2.

    The second sentence is shorter: where a mask hides nothing, many models take another way in
    eager mode than traced, and a few compute something else on it.

    Raises:
        NotImplementedError: an input that is required has no example.
    """
    config: Any = model.config
    parameters = inspect.signature(model.forward).parameters
    wanted = {str(model.main_input_name), *(_RANDOM & set(parameters))}
    if _multimodal(config):
        wanted |= {"input_ids", "pixel_values"}
    if getattr(config, "is_encoder_decoder", False):
        wanted |= {"decoder_input_ids", "future_values", "future_time_features"}
    wanted |= {name for name, one in parameters.items() if _required(one)}
    generator = torch.Generator().manual_seed(0)
    made = {name: _input(name, config, generator) for name in parameters if name in wanted}
    if "input_ids" in made and "attention_mask" in parameters:
        mask = torch.ones_like(made["input_ids"])
        mask[1, -_PADDED:] = 0
        made["attention_mask"] = mask
    _place_images(model, config, made)
    return {name: made[name] for name in parameters if name in made}


def family_of(inputs: Iterable[str]) -> str:
    """What a model with these inputs works on, see :data:`FAMILIES`; ``""`` for anything else."""
    found = [
        kind for kind, starts in _KINDS.items() if any(name.startswith(starts) for name in inputs)
    ]
    return "multimodal" if len(found) > 1 else "".join(found)


def _required(parameter: inspect.Parameter) -> bool:
    return (
        parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _multimodal(config: PretrainedConfig) -> bool:
    return hasattr(config, "text_config") and hasattr(config, "vision_config")


def _place_images(model: Any, config: Any, made: dict[str, torch.Tensor]) -> None:
    """Begin each sentence with as many image tokens as the model makes of an image."""
    token = getattr(config, "image_token_id", None)
    if token is None or not {"input_ids", "pixel_values"} <= set(made):
        return
    with torch.no_grad():
        features = model.get_image_features(pixel_values=made["pixel_values"])
    features = getattr(features, "pooler_output", features)
    count = sum(one.numel() // one.shape[-1] for one in features) // _BATCH
    images = torch.full((_BATCH, count), token)
    made["input_ids"] = torch.cat([images, made["input_ids"]], 1)
    if "attention_mask" in made:
        made["attention_mask"] = torch.cat([torch.ones_like(images), made["attention_mask"]], 1)


def _input(name: str, config: PretrainedConfig, generator: torch.Generator) -> torch.Tensor:
    if name in {"input_ids", "decoder_input_ids"}:
        length = _TOKENS if name == "input_ids" else _DECODED
        return torch.randint(3, 70, (_BATCH, length), generator=generator)
    shape = _series(name, config) or _shape(name, config)
    if name == "noise":
        return torch.rand(shape, generator=generator)
    if name.endswith("_mask"):
        return torch.ones(shape)
    return torch.randn(shape, generator=generator)


def _shape(name: str, config: PretrainedConfig) -> tuple[int, ...]:
    """Shape of images, videos, sound and spectra."""
    channels = _found(config, "num_channels", 3)
    height, width = _pair(_found(config, "image_size", 32))
    frames = _found(config, "num_frames", None)
    if name == "pixel_values" and frames is None:
        return _BATCH, channels, height, width
    if name in {"pixel_values", "pixel_values_videos"}:
        return _BATCH, frames or 4, channels, height, width
    if name == "noise":
        down, across = _pair(_found(config, "patch_size", 8))
        return _BATCH, (height // down) * (width // across)
    if name == "input_features":
        wide = _found(config, "input_feat_per_channel", None)
        wide = wide or _found(config, "feature_projection_input_dim", None)
        if wide is not None:
            return _BATCH, _FRAMES, wide
        frames = 2 * _found(config, "max_source_positions", _FRAMES // 2)
        return _BATCH, _found(config, "num_mel_bins", 80), frames
    if name == "input_values":
        if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
            return _BATCH, config.max_length, config.num_mel_bins
        mono = hasattr(config, "codebook_size")  # codecs want the channel, too
        return (_BATCH, 1, _SAMPLES) if mono else (_BATCH, _SAMPLES)
    raise NotImplementedError(f"no example for input {name!r}")


def _series(name: str, config: Any) -> tuple[int, ...] | None:
    """Shape of time series; None for anything else."""
    past = _found(config, "context_length", 32)
    if not hasattr(config, "lags_sequence"):
        channels = _found(config, "num_input_channels", 1)
        return (_BATCH, past, channels) if name == "past_values" else None
    past += max(config.lags_sequence)
    ahead = config.prediction_length
    return {
        "past_values": (_BATCH, past),
        "past_observed_mask": (_BATCH, past),
        "past_time_features": (_BATCH, past, config.num_time_features),
        "future_values": (_BATCH, ahead),
        "future_time_features": (_BATCH, ahead, config.num_time_features),
    }.get(name)


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of what may be square."""
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return height, width


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
