"""What is frozen, what the gates do, and that the images of an episode tell its words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.compress.base import ModuleContext
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.spec import Array
from edgekit.zoo import clip, flamingo
from edgekit.zoo._new_words import ITEM, SHOTS, episodes
from edgekit.zoo.flamingo import Flamingo


def _model() -> Flamingo:
    model = flamingo.workload().model
    assert isinstance(model, Flamingo)
    return model


def _shown(count: int = 200) -> tuple[torch.Tensor, torch.Tensor, Array]:
    made = episodes(count, np.random.default_rng(5), held_out=True)
    return torch.from_numpy(made["images"]), torch.from_numpy(made["tokens"]), made["answer"]


@torch.no_grad()
def test_with_closed_gates_it_says_what_the_language_model_says() -> None:
    model = _model()
    images, tokens, _ = _shown(4)
    assert not torch.allclose(model(images, tokens), model.language(tokens), atol=0.1)
    for bridge in model.bridges:
        bridge.look_gate.zero_()
        bridge.feed_gate.zero_()
    torch.testing.assert_close(model(images, tokens), model.language(tokens))


@torch.no_grad()
def test_a_word_goes_with_its_image() -> None:
    """The first four images change places, their words do not."""
    images, tokens, answer = _shown()
    moved = torch.cat([images[:, :SHOTS].roll(1, dims=1), images[:, SHOTS:]], dim=1)
    words = tokens[:, ITEM - 1 :: ITEM]
    place = (words == torch.from_numpy(answer)[:, None]).int().argmax(1, keepdim=True)
    now = words.gather(1, (place + 1) % SHOTS)[:, 0]
    found = _model()(moved, tokens)[:, -1].argmax(1)
    assert float((found == now).float().mean()) > 0.9


@torch.no_grad()
@pytest.mark.parametrize("shots", [1, 2, 3])
def test_fewer_images_do_for_what_they_show(shots: int) -> None:
    images, tokens, answer = _shown()
    images, tokens = images[:, SHOTS - shots :], tokens[:, ITEM * (SHOTS - shots) :]
    known = (tokens == torch.from_numpy(answer)[:, None]).any(1).numpy()
    found = _model()(images[known], tokens[known])[:, -1].argmax(1).numpy()
    assert (found == answer[known]).mean() > 0.9


@torch.no_grad()
def test_before_the_language_model_mixes_them_words_see_the_image_right_before() -> None:
    model = _model()
    images, tokens, _ = _shown(3)
    passed: list[torch.Tensor] = []
    model.bridges[0].register_forward_hook(lambda _module, _inputs, made: passed.append(made))
    model(images, tokens)
    images[:, 2] = images[:, 3]
    model(images, tokens)
    changed = (passed[0] != passed[1]).any(2).any(0)
    assert changed.nonzero().flatten().tolist() == [6, 7, 8]


def test_the_encoder_of_images_is_that_of_clip() -> None:
    trained = clip.workload().model
    assert isinstance(trained, clip.Clip)
    wanted = trained.images.state_dict()
    for name, tensor in _model().images.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4)


def test_training_leaves_what_is_frozen_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flamingo, "_TRAINED", 64)
    workload = flamingo.workload()
    model = workload.model
    assert isinstance(model, Flamingo)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    finetune(workload, model, FineTune(epochs=1), ModuleContext(), label="test")
    changed = {
        name for name, tensor in model.state_dict().items() if (tensor != before[name]).any()
    }
    assert {name.split(".")[0] for name in changed} == {"resampler", "bridges"}
    assert "bridges.0.look_gate" in changed
