"""Inputs are of the kinds and shapes that models of each family want."""

from __future__ import annotations

import pytest
import torch

from edgekit.compress.modules import flat_tensors
from edgekit.zoo.check.examples import example_inputs, family_of
from edgekit.zoo.check.small import small_model

#: One of each family, and such that need something that others do not.
KINDS = {
    "bert": ("text", ["input_ids", "attention_mask"]),
    "t5": ("text", ["input_ids", "attention_mask", "decoder_input_ids"]),
    "vit": ("vision", ["pixel_values"]),
    "vit_mae": ("vision", ["pixel_values", "noise"]),
    "vivit": ("vision", ["pixel_values"]),
    "clip": ("multimodal", ["input_ids", "pixel_values", "attention_mask"]),
    "llava": ("multimodal", ["input_ids", "pixel_values", "attention_mask"]),
    "whisper": ("audio", ["input_features", "decoder_input_ids"]),
    "wav2vec2": ("audio", ["input_values"]),
    "encodec": ("audio", ["input_values"]),
    "patchtst": ("time series", ["past_values"]),
    "informer": (
        "time series",
        [
            "past_values", "past_time_features", "past_observed_mask", "future_values",
            "future_time_features",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_every_family_gets_what_it_runs_on(kind: str) -> None:
    family, names = KINDS[kind]
    model = small_model(kind)
    inputs = example_inputs(model)
    assert list(inputs) == names
    assert family_of(inputs) == family
    with torch.no_grad():
        made = flat_tensors(model(**inputs))
    assert made
    assert all(torch.isfinite(one).all() for one in made.values() if one.is_floating_point())


def test_a_sentence_is_shorter_than_the_other() -> None:
    mask = example_inputs(small_model("bert"))["attention_mask"]
    assert mask.sum(1).tolist() == [8, 6]


def test_a_video_has_frames_and_an_image_has_its_tokens() -> None:
    assert example_inputs(small_model("vivit"))["pixel_values"].ndim == 5
    model = small_model("llava")
    inputs = example_inputs(model)
    images = (inputs["input_ids"] == model.config.image_token_id).sum(1)
    assert images.tolist() == [16, 16]  # 32 by 32 in patches of 8
    assert inputs["attention_mask"].shape == inputs["input_ids"].shape


def test_noise_decides_what_a_masked_autoencoder_sees() -> None:
    model = small_model("vit_mae")
    inputs = example_inputs(model)
    one, again = (model(**inputs).last_hidden_state for _ in range(2))
    assert torch.equal(one, again)


def test_inputs_are_the_same_each_time() -> None:
    model = small_model("bert")
    inputs, others = example_inputs(model), example_inputs(model)
    assert all(torch.equal(inputs[name], others[name]) for name in inputs)


def test_inputs_of_no_family_are_of_none() -> None:
    assert family_of(["states", "actions"]) == ""
