"""The translator writes the same on every engine; its grammar is German."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgekit.exporters import ExportOptions

from edgekit import exporters, runtimes, zoo
from edgekit.reference import reference_predict
from edgekit.workload import Workload
from edgekit.zoo import _grammar, bert
from edgekit.zoo._grammar import pairs, sentences
from edgekit.zoo.translation import translated
from tests.conftest import READ_ONNX
from tests.zoo.on_engines import prepared


@pytest.fixture(scope="module")
def workload() -> Workload:
    return zoo.load("translation-german")


@pytest.fixture(scope="module")
def graph(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(workload, tmp_path_factory.mktemp("translation"))


@pytest.mark.parametrize("engine", READ_ONNX)
def test_the_same_translations_as_pytorch(
    workload: Workload, graph: Path, tmp_path: Path, engine: str
) -> None:
    file = exporters.get(engine).export(graph, tmp_path / engine, ExportOptions(None, {}))[0]
    english = [one for one, _ in pairs().test[:100]]
    with reference_predict(workload) as predict, runtimes.get(engine).load(file) as session:
        assert translated(session.run, english) == translated(predict, english)


def test_the_grammar_is_german() -> None:
    told = dict(sentences(12600, seed=0))
    for english, german in (
        ("the doctors help the new man", "die Ärzte helfen dem neuen Mann"),
        ("today a mouse has asked the girl", "heute hat eine Maus das Mädchen gefragt"),
        ("often a new bird seeks the quick men", "oft sucht ein neuer Vogel die schnellen Männer"),
        (
            "the mice say that a sheep has thanked a doctor",
            "die Mäuse sagen , dass ein Schaf einem Arzt gedankt hat",
        ),
    ):
        assert told[english] == german


def test_a_dictionary_alone_translates_next_to_nothing() -> None:
    nouns, verbs = _grammar._NOUNS, _grammar._VERBS
    words = {"the": "der", "a": "ein", "an": "ein", "has": "hat", "have": "haben"}
    words |= {"that": ", dass", "because": ", weil", **_grammar._ADJECTIVES, **_grammar._TIMES}
    words |= {noun.many: noun.germans for noun in nouns} | {noun.one: noun.german for noun in nouns}
    words |= {verb.plain: verb.germans for verb in verbs}
    words |= {verb.third: verb.german for verb in verbs}
    words |= {verb.participle: verb.done for verb in verbs}
    for one, many, _, er, sie, _ in _grammar._CLAUSES:
        words |= {one: er, many: sie}
    told = [" ".join(words[word] for word in english.split()) for english, _ in pairs().test]
    right = np.mean([a == german for a, (_, german) in zip(told, pairs().test, strict=True)])
    assert right < 0.02


def test_no_held_out_sentence_is_learnt() -> None:
    assert not {one for one, _ in pairs().test} & {one for one, _ in pairs().train}


def test_masked_words_are_as_many_as_bert_masks() -> None:
    tokens = bert._texts(held_out=False)[:2000]
    feeds, words = bert.masked(tokens, np.random.default_rng(0))
    chosen, real = words >= 0, tokens > bert.WORDS.index("<mask>")
    assert not (chosen & ~real).any()
    assert chosen.sum() / real.sum() == pytest.approx(0.15, abs=0.01)
    masked = feeds["tokens"][chosen] == bert.WORDS.index("<mask>")
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    np.testing.assert_array_equal(feeds["tokens"][~chosen], tokens[~chosen])
