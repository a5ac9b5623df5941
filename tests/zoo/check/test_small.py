"""Small models of many kinds can be built, run and exported, whatever their settings are called."""

from __future__ import annotations

import pytest
import torch

from edgekit.compress.modules import flat_tensors
from edgekit.zoo.check.small import example_inputs, small_model

#: One of each modality, and such that need something that others do not.
KINDS = {
    "bert": ["input_ids", "attention_mask"],
    "mixtral": ["input_ids", "attention_mask"],
    "t5": ["input_ids", "attention_mask", "decoder_input_ids"],
    "vit": ["pixel_values"],
    "clip": ["input_ids", "pixel_values", "attention_mask"],
    "whisper": ["input_features", "decoder_input_ids"],
    "wav2vec2": ["input_values"],
    "patchtst": ["past_values"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_every_modality_is_small_and_runs(kind: str) -> None:
    model = small_model(kind)
    inputs = example_inputs(model)
    assert list(inputs) == KINDS[kind]
    assert sum(one.numel() for one in model.parameters()) < 5_000_000
    with torch.no_grad():
        made = flat_tensors(model(**inputs))
    assert made
    assert all(len(tensor) == 2 for tensor in made.values() if tensor.ndim > 1)


def test_weights_and_inputs_are_the_same_each_time() -> None:
    first, again = small_model("bert"), small_model("bert")
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    inputs, others = example_inputs(first), example_inputs(again)
    assert all(torch.equal(inputs[name], others[name]) for name in inputs)
