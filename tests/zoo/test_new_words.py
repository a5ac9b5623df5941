"""Episodes whose words only their images tell."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.spec import Array
from edgekit.zoo import _new_words
from edgekit.zoo._new_words import IMAGE, ITEM, SHOTS, WORDS, episodes, lessons, texts
from edgekit.zoo._things import COLOURS, HELD_OUT, KINDS, SHAPES


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Episodes with kinds in place of their pictures."""
    monkeypatch.setattr(_new_words, "_pictures", lambda kinds, _generator: kinds)
    return episodes(300, np.random.default_rng(0), held_out=True)


def test_the_answer_is_the_word_of_what_has_the_same_colour_or_shape(
    drawn: dict[str, Array],
) -> None:
    for kinds, tokens, answer in zip(
        drawn["images"], drawn["tokens"], drawn["answer"], strict=True
    ):
        assert (tokens[::ITEM] == IMAGE).all()
        (asked,) = {WORDS[token] for token in tokens[1::ITEM]}
        *values, last = (KINDS[kind][1 if asked == "colour" else 2] for kind in kinds)
        words = tokens[2::ITEM].tolist()
        assert len(set(values)) == len(set(words)) == SHOTS
        assert words[values.index(last)] == answer


def test_only_what_is_asked_about_is_always_of_a_held_out_kind(drawn: dict[str, Array]) -> None:
    held_out = HELD_OUT[drawn["images"]]
    assert held_out[:, -1].all()
    assert 0.1 < held_out[:, :-1].mean() < 0.3


def test_training_shows_no_held_out_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_new_words, "_pictures", lambda kinds, _generator: kinds)
    learnt = lessons(300, np.random.default_rng(0))
    assert not HELD_OUT[learnt["images"]].any()


def test_a_text_calls_the_same_thing_the_same() -> None:
    for row in texts(200, np.random.default_rng(0)):
        names, words = row[1::ITEM], row[2::ITEM]
        values = {WORDS[name] for name in names} - {"colour", "shape"}
        assert values <= set(COLOURS) or values <= set(SHAPES)
        called = set(zip(names, words, strict=True))
        for value in values:
            assert sum(WORDS[name] == value for name, _ in called) == 1
