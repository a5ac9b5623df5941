"""A run that was killed goes on; one of other checks is not mistaken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import OutputError
from edgekit.progress import Silent
from edgekit.zoo.check.checked import Checks
from edgekit.zoo.check.journal import Journal
from edgekit.zoo.check.outcome import Outcome
from edgekit.zoo.check.suite import SUITES, run_suite

CHECKS = Checks(plain=False)
BERT = Outcome(kind="bert", family="text", built=True, sqnr_db={"openvino": float("-inf")})


def _journal(folder: Path, checks: Checks = CHECKS) -> Journal:
    return Journal(folder / "found.jsonl", "transformers", checks, Outcome)


def test_what_was_checked_is_not_checked_again(tmp_path: Path) -> None:
    _journal(tmp_path).add(BERT)
    found = run_suite(
        SUITES["transformers"], ["bert"], CHECKS, progress=Silent(), journal=_journal(tmp_path)
    )
    assert found == [BERT]


def test_a_torn_line_is_checked_again(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.add(BERT)
    journal.add(BERT.model_copy(update={"kind": "vit"}))
    path = tmp_path / "found.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(_journal(tmp_path).outcomes) == ["bert"]
    _journal(tmp_path).add(BERT.model_copy(update={"kind": "clip"}))
    assert list(_journal(tmp_path).outcomes) == ["bert", "clip"]


def test_outcomes_of_other_checks_or_of_something_else_are_refused(tmp_path: Path) -> None:
    _journal(tmp_path).add(BERT)
    with pytest.raises(OutputError, match="other checks or versions"):
        _journal(tmp_path, Checks(plain=False, gpu="sm89"))
    (tmp_path / "found.jsonl").write_text("a letter\n")
    with pytest.raises(OutputError, match="holds something else"):
        _journal(tmp_path)
    assert (tmp_path / "found.jsonl").read_text() == "a letter\n"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        _journal(tmp_path / "nowhere")
