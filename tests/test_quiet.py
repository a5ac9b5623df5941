from __future__ import annotations

import os

import pytest

from edgekit.quiet import native_stderr


def test_what_native_code_says_is_kept_and_stderr_comes_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []

    def fail() -> None:
        nonlocal said
        with native_stderr() as said:
            os.write(2, b"one\ntwo\n")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert said == ["one", "two"]
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
