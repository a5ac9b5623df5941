from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.search.journal import Journal, Trial, pareto


def _trial(*names: str, **figures: float) -> Trial:
    return Trial(engine="openvino", kind="measured", keep_float=names, **figures)


TRIALS = [_trial("a", score=0.5), _trial("a", "b", speedup=1.25, low=1.0), _trial("Größe → ü")]


def _written(path: Path) -> Path:
    journal = Journal(path, "print")
    for trial in TRIALS:
        journal.add(trial)
    return path


def test_a_new_search_resumes_with_every_trial(tmp_path: Path) -> None:
    journal = Journal(_written(tmp_path / "j.jsonl"), "print")
    assert journal.trials == TRIALS
    assert journal.resumed == 3


def test_every_cut_of_the_file_keeps_the_lines_before_it(tmp_path: Path) -> None:
    whole = _written(tmp_path / "j.jsonl").read_bytes()
    header = whole.index(b"\n")
    for length in range(len(whole)):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(whole[:length])
        journal = Journal(torn, "print")
        complete = whole[: length + 1].count(b"\n") - 1 if length >= header else 0
        assert journal.trials == TRIALS[: max(complete, 0)], length


def test_a_torn_last_line_does_not_spoil_what_is_added_after_it(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    extra = _trial("z", score=1.0)
    Journal(path, "print").add(extra)
    assert Journal(path, "print").trials == [*TRIALS[:2], extra]


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"nonsense", b"\xff\xfe"])
def test_a_file_that_is_no_journal_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(content)
    assert Journal(path, "print").trials == []
    assert json.loads(path.read_text().splitlines()[0]) == {"fingerprint": "print"}


def test_a_journal_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl")
    assert Journal(path, "other").trials == []
    assert Journal(path, "print").trials == []


def test_a_trial_is_on_disk_as_soon_as_it_is_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl", "print")
    for count, trial in enumerate(TRIALS, 1):
        journal.add(trial)
        assert len((tmp_path / "j.jsonl").read_text().splitlines()) == 1 + count


def test_a_trial_is_found_whatever_the_order_of_its_operators() -> None:
    journal = Journal(None, "")
    added = journal.add(_trial("b", "a", score=0.5))
    assert journal.find(_trial("a", "b")) is added
    assert journal.find(_trial("a")) is None
    assert journal.find(_trial("a", "b").model_copy(update={"engine": "onnxruntime"})) is None
    assert journal.find(_trial("a", "b").model_copy(update={"kind": "simulated"})) is None


def test_what_became_of_a_trial_does_not_make_it_another_one(tmp_path: Path) -> None:
    asked = _trial("a").model_copy(update={"note": "Gemm 5x8 in float"})
    Journal(tmp_path / "j", "print").add(
        asked.model_copy(update={"note": "Gemm 5x8 in float: cannot be built"})
    )
    assert Journal(tmp_path / "j", "print").find(asked) is not None


def test_figures_that_are_not_finite_survive_the_disk(tmp_path: Path) -> None:
    odd = _trial("a", speedup=float("inf"), low=float("-inf"))
    Journal(tmp_path / "j.jsonl", "print").add(odd)
    assert Journal(tmp_path / "j.jsonl", "print").trials == [odd]


def test_closing_removes_the_file(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl")
    Journal(path, "print").close()
    assert list(tmp_path.iterdir()) == []
    Journal(path, "print").close()


def test_a_journal_without_a_file_writes_nothing(tmp_path: Path) -> None:
    journal = Journal(None, "")
    journal.add(TRIALS[0])
    journal.close()
    assert journal.trials == TRIALS[:1]


figure = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), st.floats(-10, 10))


@given(st.lists(st.tuples(figure, figure), max_size=12), st.booleans())
def test_the_front_is_what_no_other_trial_beats(
    figures: list[tuple[float | None, float | None]], higher: bool
) -> None:
    trials = [
        _trial(str(index), score=score, speedup=speed)
        for index, (score, speed) in enumerate(figures)
    ]
    found = pareto(trials, higher_is_better=higher)
    points = {
        (score if higher else -score, speed)
        for score, speed in figures
        if score is not None and speed is not None
    }
    expected = {
        (a, b)
        for a, b in points
        if not any(c >= a and d >= b and (c > a or d > b) for c, d in points)
    }
    assert {(t.score if higher else -t.score, t.speedup) for t in found} == expected
    assert len(found) == len(expected)
    assert [t.speedup for t in found] == sorted((t.speedup for t in found), reverse=True)
