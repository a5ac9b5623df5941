"""Captions that engines decode are PyTorch's, and the attention is where the things are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import runtimes, zoo
from edgekit.zoo import _things
from edgekit.zoo._things import END, WORDS, caption, spell
from edgekit.zoo.captioner import Captioner
from tests.zoo.on_engines import ENGINES, prepared

COUNT = 64


def _scenes() -> tuple[np.ndarray, torch.Tensor]:
    generator = np.random.default_rng(7)
    kinds = _things.pairs(COUNT, generator, held_out=True)
    return kinds, torch.from_numpy(_things.render(kinds, generator))


@pytest.mark.slow
def test_each_word_is_pytorchs(tmp_path: Path) -> None:
    workload = zoo.load("captioner-scenes")
    _, images = _scenes()
    with torch.no_grad():
        scores, words, looks = workload.model(images)
    graph = prepared(workload, tmp_path)
    for engine in ENGINES:
        with runtimes.require(engine).load(graph) as session:
            got = session.run({"image": images.numpy()})
        np.testing.assert_array_equal(got["words"], words.numpy(), err_msg=engine)
        np.testing.assert_allclose(got["scores"], scores.numpy(), atol=2e-3, err_msg=engine)
        np.testing.assert_allclose(got["attention"], looks.numpy(), atol=1e-3, err_msg=engine)


@torch.no_grad()
def test_sentences_end_once_and_are_of_the_right_form() -> None:
    _, images = _scenes()
    for row in _model()(images)[1].tolist():
        assert row.count(WORDS.index(END)) >= 1
        said = " ".join(WORDS[one] for one in row).split(END)[0].split()
        assert said[0] == "a"
        assert said.count("a") == 2


@torch.no_grad()
def test_what_decode_follows_does_not_change_the_words_before() -> None:
    _, images = _scenes()
    model = _model()
    greedy = model(images)[0]
    wrong = torch.full((COUNT,), WORDS.index("of"))
    forced, _ = model.decode(
        images, lambda step, scores: wrong if step == 4 else scores.argmax(dim=-1)
    )
    torch.testing.assert_close(forced[:, :5], greedy[:, :5])
    assert not torch.allclose(forced[:, 5], greedy[:, 5])


@torch.no_grad()
def test_it_looks_at_the_thing_that_it_names() -> None:
    kinds, images = _scenes()
    _, words, looks = _model()(images)
    said = spell(words.numpy(), WORDS)
    right = [place for place, row in enumerate(kinds.tolist()) if said[place] == caption(row)]
    near = []
    for place in right:
        first, second = np.flatnonzero(kinds[place] >= 0)
        shape = said[place].split().index("a", 1) + 3  # the second thing's last word
        cells = looks[place].unflatten(1, (2, 2, 2, 2)).sum((2, 4)).flatten(1)
        near.append(
            (cells[3, first] > cells[3, second], cells[shape, second] > cells[shape, first])
        )
    assert len(right) > COUNT * 0.8
    assert np.mean(near) > 0.9


def _model() -> Captioner:
    model = zoo.load("captioner-scenes").model
    assert isinstance(model, Captioner)
    return model
