from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import EdgekitError, GateError, UnsupportedOperatorError, nearest


@given(st.text(), st.text(), st.text())
def test_a_message_is_always_one_line(what: str, where: str, fix: str) -> None:
    assert "\n" not in str(EdgekitError(what, where=where, fix=fix))


def test_a_message_says_where_what_and_how_to_mend() -> None:
    error = EdgekitError("is broken", where="a.onnx", fix="Export it again")
    assert str(error) == "a.onnx: is broken. Export it again."


def test_bad_input_and_failed_gates_have_different_exit_codes() -> None:
    assert EdgekitError("x").exit_code == 2
    assert GateError("x").exit_code == 1


def test_an_unsupported_operator_names_itself_and_its_module() -> None:
    text = str(UnsupportedOperatorError("aten.foo", "block.1 (Foo)", "ONNX"))
    assert "aten.foo" in text
    assert "block.1 (Foo)" in text


def test_nearest_finds_typos_and_nothing_else() -> None:
    assert nearest("observr", ["observer", "percentile"]) == "observer"
    assert nearest("zzz", ["observer", "percentile"]) is None
    assert nearest("zzz", []) is None


def test_of_equally_close_names_the_one_that_begins_alike_is_nearest() -> None:
    for names in (["resnet8-mnist", "resnext-mnist"], ["resnext-mnist", "resnet8-mnist"]):
        assert nearest("resnet9", names) == "resnet8-mnist"
