"""A model of the zoo passes when all of its way works, and tells what did not."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from edgekit import zoo
from edgekit.errors import GateError
from edgekit.zoo.check import model
from edgekit.zoo.check.checked import Checks
from edgekit.zoo.check.journal import Journal
from edgekit.zoo.check.model import Passage, check_model
from edgekit.zoo.check.passages import print_passages, require_passages


@pytest.mark.slow
def test_a_model_goes_the_whole_way(tmp_path: Path) -> None:
    found = check_model("mlp-digits", Checks(gpu="sm89"))
    assert found.passed, found.reasons
    assert found.metric == "accuracy"
    assert found.score == pytest.approx(zoo.listed()["mlp-digits"].score, abs=2e-3)
    assert {"onnxruntime-int8", "openvino-int8"} <= found.scores.keys()
    assert {"onnxruntime", "openvino"} <= found.selected.keys()
    assert found.engine
    assert found.served_db is not None
    assert found.served_db > 20
    journal = Journal(tmp_path / "found.jsonl", "zoo", Checks(), Passage)
    journal.add(found)
    again = Journal(tmp_path / "found.jsonl", "zoo", Checks(), Passage)
    assert again.outcomes == {"mlp-digits": found}


def test_a_model_that_did_not_learn_enough_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dataclasses.replace(zoo.entry("mlp-digits"), bar=1.0, recipe="fp32")
    monkeypatch.setattr(model.zoo, "entry", lambda _: wanted)
    found = check_model("mlp-digits")
    assert not found.reasons
    assert not found.learned
    assert not found.passed
    with pytest.raises(GateError, match="0 of 1 models pass"):
        require_passages([found])


def test_a_recipe_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dataclasses.replace(zoo.entry("mlp-digits"), recipe="int9")
    monkeypatch.setattr(model.zoo, "entry", lambda _: wanted)
    found = check_model("mlp-digits")
    assert "int9" in found.reasons["compress"]
    assert not found.passed


def _passage(**changes: object) -> Passage:
    fields = {
        "kind": "a", "family": "recurrent", "metric": "loss", "better": "lower", "bar": 0.5,
        "score": 0.4, "scores": {"openvino-int8": 0.41}, "verified": True, "served_db": 40.0,
        "selected": {"openvino": "openvino-int8: it is faster"},
    }  # fmt: skip
    return Passage.model_validate(fields | changes)


def test_less_is_better_where_the_metric_says_so() -> None:
    assert _passage().passed
    assert not _passage(score=0.6).passed
    assert not _passage(score=None).passed
    assert not _passage(engine=False).passed
    assert not _passage(verified=False).passed


def test_a_narrow_table_loses_nothing() -> None:
    text = io.StringIO()
    print_passages([_passage()], Console(file=text, width=80))
    table = text.getvalue().partition("a, openvino")[0]
    assert {"0.41,", "ships", "passed", "dB"} <= set(table.split())
    assert "…" not in table


def test_the_table_has_a_row_a_model_and_its_causes() -> None:
    text = io.StringIO()
    outcomes = [_passage(), Passage.died("b", "took over 600 s")]
    print_passages(outcomes, Console(file=text, width=140))
    told = text.getvalue()
    assert "int8 0.41, ships int8" in told
    assert "a, openvino: openvino-int8: it is faster" in told
    assert "b failed, process: took over 600 s" in told
    assert "1 of 2 models pass" in told
    require_passages(outcomes[:1])
