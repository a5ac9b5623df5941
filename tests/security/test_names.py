"""Names as attackers write them, after the tests that Triton has for its repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.security.names import checked_folder, checked_name
from edgekit.serve.errors import ServeError

BAD = [
    "", " ", "\t", "\n", "digits\n", " digits", "digits ", ".", "..", "...", ".hidden", "-rf", "_a",
    "a/b", "/", "/etc/passwd", "../digits", "digits/..", "a..b", "..\\digits", "C:\\models", "a\\b",
    "%2e%2e", "%2e%2e%2f", "digits%00", "digits\0", "\0", "~", "$HOME", "a;b", "a*", "a" * 129,
    "\N{FULLWIDTH FULL STOP}" * 2, "d\N{LATIN SMALL LETTER I WITH DIAERESIS}gits", "\ud800",
    None, 7, b"digits", ["digits"],
]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_what_is_no_name_is_refused_with_400(name: object) -> None:
    with pytest.raises(ServeError, match="is not the name of a model") as caught:
        checked_name(name)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["a", "7", "resnet8-mnist", "bert_base.v2", "A" * 128])
def test_plain_names_pass(name: str) -> None:
    assert checked_name(name) is name


@given(st.text() | st.text(alphabet="./\\%2e\0 ab"))
def test_what_passes_stays_one_step_below_the_folder(name: str) -> None:
    root = Path("/models")
    try:
        path = root / checked_name(name)
    except ServeError:
        return
    assert path.parent == root
    assert path.resolve().parent == root


def test_a_link_that_leads_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "models", tmp_path / "outside"
    (outside / "1").mkdir(parents=True)
    (root / "good").mkdir(parents=True)
    (root / "out").symlink_to(outside)
    (root / "relative").symlink_to(Path("..") / "outside")
    (root / "good" / "1").symlink_to(outside / "1")
    (root / "alias").symlink_to("good")
    for names in (["out"], ["relative"], ["out", "1"], ["good", "1"], ["alias", "1"]):
        with pytest.raises(ServeError, match="leads out of the model repository"):
            checked_folder(root, *names)
    assert checked_folder(root, "good") == root / "good"
    assert checked_folder(root, "alias") == root / "alias"
    assert checked_folder(root, "absent") == root / "absent"


def test_a_repository_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real" / "digits").mkdir(parents=True)
    (tmp_path / "models").symlink_to("real")
    assert checked_folder(tmp_path / "models", "digits").is_dir()


def test_a_link_that_leads_to_itself_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert not checked_folder(tmp_path, "loop").is_dir()
