"""Small models of many kinds can be built, whatever their settings are called."""

from __future__ import annotations

import pytest
import torch

from edgekit.zoo.check.small import small_config, small_model


@pytest.mark.parametrize("kind", ["bert", "mixtral", "t5", "vit", "clip", "whisper", "patchtst"])
def test_models_are_small(kind: str) -> None:
    assert sum(one.numel() for one in small_model(kind).parameters()) < 5_000_000


def test_weights_are_the_same_each_time() -> None:
    first, again = small_model("bert"), small_model("bert")
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["afmoe", "doge"])
def test_no_weights_are_alike(kind: str) -> None:
    # Equal scores of experts, or of keys, would leave it to each engine which ones are taken.
    for name, weight in small_model(kind).named_parameters():
        assert weight.numel() == 1 or weight.min() < weight.max(), name


def test_no_part_of_a_model_returns_a_cache() -> None:
    model = small_model("t5gemma")
    configs = [part.config for part in model.modules() if hasattr(part, "config")]
    assert not any(getattr(config, "use_cache", False) for config in configs)


def test_settings_follow_from_others() -> None:
    latent = small_config("deepseek_v3")
    assert latent.num_key_value_heads == latent.num_attention_heads
    assert small_config("informer").prediction_length == 4
    llava = small_config("llava")
    assert llava.image_token_id < llava.text_config.vocab_size
