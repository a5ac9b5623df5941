"""``edgekit conformance``: what people and machines read, and the exit codes."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from tests.conformance.small_server import small_server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with small_server() as url:
        yield url


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def conformance(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs the command in this process."""

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgekit", "conformance", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


def test_a_server_that_conforms_is_exit_code_0_and_a_line_for_each_clause(
    url: str, conformance: Callable[..., Done]
) -> None:
    done = conformance(url)
    assert done.code == 0, done.err
    assert "rest/id-echoed" in done.out
    assert "no gRPC address was given" in done.out
    assert " 0 fail" in done.out.splitlines()[-1]


def test_json_says_what_was_expected_and_what_came(conformance: Callable[..., Done]) -> None:
    with small_server("drops the id") as url:
        done = conformance(url, "--json")
    assert done.code == 1
    document = json.loads(done.out)
    assert document["model"] == "small"
    assert not document["conforms"]
    (clause,) = [entry for entry in document["clauses"] if entry["status"] == "fail"]
    assert (clause["id"], clause["level"], clause["area"]) == ("rest/id-echoed", "must", "rest")
    assert (clause["expected"], clause["got"]) == ("the request's id", "None")


def test_no_server_is_exit_code_2_and_one_line(conformance: Callable[..., Done]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    done = conformance(f"http://127.0.0.1:{port}")
    assert done.code == 2
    assert f"http://127.0.0.1:{port}: does not answer" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "other"], "has no metadata of model 'other'"),
        (["--header", "nothing"], "'nothing' is no header"),
        (["--input", "pyproject.toml"], "is no .npz of arrays"),
    ],
)
def test_a_wrong_option_is_one_line(
    url: str, arguments: list[str], message: str, conformance: Callable[..., Done]
) -> None:
    done = conformance(url, *arguments)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_own_inputs_are_sent(url: str, tmp_path: Path, conformance: Callable[..., Done]) -> None:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, number=np.ones((3, 3), np.float32), text=np.full((3, 2), "é"))
    assert conformance(url, "--input", str(inputs)).code == 0
    np.savez(inputs, number=np.ones((1, 7), np.float32), text=np.full((1, 2), "a"))
    done = conformance(url, "--input", str(inputs), "--json")
    assert done.code == 1
    by_id = {entry["id"]: entry for entry in json.loads(done.out)["clauses"]}
    assert by_id["rest/infer"]["got"].startswith("400")


def test_a_missing_package_is_named(
    conformance: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("edgekit.conformance")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "httpx", None)
    done = conformance("http://127.0.0.1:1")
    assert done.code == 2
    assert "the package 'httpx' is not installed" in done.err
